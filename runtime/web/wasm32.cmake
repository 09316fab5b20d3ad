# The engine as a WebAssembly module for engine.js.  A module is built for one instruction set.
option(EDGEWRIGHT_RELAXED "Relaxed SIMD" OFF)

set(CMAKE_C_FLAGS_RELEASE "-Os")
add_compile_options(-msimd128 -Wno-pass-failed) # -Os leaves some loops that ask for vectors
if(EDGEWRIGHT_RELAXED)
  add_compile_options(-mrelaxed-simd)
endif()

# What engine.js calls.
set(edge_exports malloc free aligned_alloc edge_self_test edge_abi_version edge_last_error
    edge_model_open_memory edge_model_free edge_session_create edge_session_free
    edge_session_input_count edge_session_output_count edge_session_input edge_session_output
    edge_session_step_count edge_session_step edge_session_memory_bytes edge_session_run)

function(edge_wasm_module name)
  set(web ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  add_executable(${name} ${ARGN} ${web}/layout.c ${web}/self_test.c)
  set_target_properties(${name} PROPERTIES SUFFIX .wasm)
  list(TRANSFORM edge_exports PREPEND -Wl,--export= OUTPUT_VARIABLE exports)
  target_link_options(${name} PRIVATE -mexec-model=reactor -s -Wl,-z,stack-size=1048576 ${exports})
endfunction()
