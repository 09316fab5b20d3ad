"""Training of a module by what the user passed as ``train=``, for the methods that train."""
