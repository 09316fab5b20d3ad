# The engine as WebAssembly modules for engine.js, built for one instruction set: NAME has every operator, NAME_common those
# that most networks need.
option(EDGEWRIGHT_RELAXED "Relaxed SIMD" OFF)

# Small, except for the kernels and for operators that walk over whole images one by one; zig takes -Oz for -Os.
set(CMAKE_C_FLAGS_RELEASE "-Os")
set(EDGEWRIGHT_MOVABLE OFF)
add_compile_options(-fno-pic -msimd128 -Wno-pass-failed) # -Os leaves some loops that ask for vectors
if(EDGEWRIGHT_RELAXED)
  add_compile_definitions(EDGE_WASM_RELAXED) # the flag itself is for the kernels that need it: kernels_arm/CMakeLists.txt
endif()
set(edge_hot activation elementwise elementwise_binary reduction_rows)
# Where calls of small functions would be felt they are still inlined; elsewhere only where that makes code smaller.
set(edge_warm "^(fused.*|gemm.*|dot|pool|quantize|softmax|columns|strided|transpose|stretch|layer_norm|resize)$")

# What engine.js calls.
set(edge_exports malloc free aligned_alloc edge_self_test edge_last_error
    edge_model_open_memory edge_session_create
    edge_session_input_count edge_session_output_count edge_session_input edge_session_output
    edge_session_step_count edge_session_step edge_session_memory_bytes edge_session_run
    edge_model_image edge_image_workspace edge_image_load edge_model_ranking edge_rank)

function(edge_wasm_modules name)
  set(web ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  # In front of all other objects: what these two define is then not taken from the C library.
  add_library(edge_c OBJECT ${web}/format.c ${web}/math.c)
  target_compile_options(edge_c PRIVATE -Wall -Wextra -ffunction-sections -ffp-contract=off -fno-math-errno
    $<$<BOOL:${EDGEWRIGHT_STRICT}>:-Werror>)
  target_compile_definitions(edge_c PRIVATE _GNU_SOURCE)
  set_target_properties(edge_c PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF)
  add_executable(${name} ${ARGN} ${web}/layout.c ${web}/self_test.c)
  add_dependencies(${name} edge_c)
  set_source_files_properties(${web}/math.c PROPERTIES COMPILE_FLAGS -fno-builtin) # its loops are no calls of itself
  foreach(source ${ARGN} ${web}/self_test.c)
    get_filename_component(stem ${source} NAME_WE)
    if(NOT stem IN_LIST edge_hot)
      set(small "-Xclang -Oz -mllvm -disable-lsr")
      if(NOT stem MATCHES "${edge_warm}")
        string(APPEND small " -mllvm -inline-threshold=-25")
      endif()
      set_source_files_properties(${source} PROPERTIES COMPILE_FLAGS "${small}")
    endif()
  endforeach()
  list(TRANSFORM edge_exports PREPEND -Wl,--export= OUTPUT_VARIABLE exports)
  target_link_options(${name} PRIVATE -mexec-model=reactor -s -Wl,-z,stack-size=917504 ${exports}
    $<TARGET_OBJECTS:edge_c>)

  # All of it but the table of operators, which is made once more.
  add_executable(${name}_common src/op.c $<FILTER:$<TARGET_OBJECTS:${name}>,EXCLUDE,/src/op\\.c>)
  foreach(part ${EDGE_KERNEL_PARTS})
    target_sources(${name}_common PRIVATE $<TARGET_OBJECTS:${part}>)
  endforeach()
  set_target_properties(${name}_common PROPERTIES C_EXTENSIONS OFF)
  target_compile_definitions(${name}_common PRIVATE EDGE_COMMON_OPERATORS $<TARGET_PROPERTY:${name},COMPILE_DEFINITIONS>)
  target_compile_options(${name}_common PRIVATE $<TARGET_PROPERTY:${name},COMPILE_OPTIONS>)
  target_include_directories(${name}_common PRIVATE $<TARGET_PROPERTY:${name},INCLUDE_DIRECTORIES>)
  target_link_options(${name}_common PRIVATE $<TARGET_PROPERTY:${name},LINK_OPTIONS>)
  set_target_properties(${name} ${name}_common PROPERTIES SUFFIX .wasm LINK_DEPENDS "$<TARGET_OBJECTS:edge_c>")
endfunction()
