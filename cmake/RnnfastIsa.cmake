# rnnfast_add_isa(NAME FLAGS...) compiles cpp/src/kernels/isa_NAME.cpp with FLAGS into the library and lists it for dispatch.
# No exceptions, no RTTI, never LTO or a precompiled header: nothing of this file's instructions may leave it but its table.
function(rnnfast_add_isa name)
  add_library(rnnfast_isa_${name} OBJECT cpp/src/kernels/isa_${name}.cpp)
  target_include_directories(rnnfast_isa_${name} PRIVATE cpp/src)
  target_link_libraries(rnnfast_isa_${name} PRIVATE rnnfast_options)
  # GCC's own AVX-512 header reads an undefined register on purpose and warns about it (GCC bug 105593).
  target_compile_options(rnnfast_isa_${name} PRIVATE ${ARGN} -O3 -fno-exceptions -fno-rtti
                                                     "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
  set_target_properties(rnnfast_isa_${name} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF UNITY_BUILD OFF
                                                       DISABLE_PRECOMPILE_HEADERS ON)
  target_sources(rnnfast PRIVATE $<TARGET_OBJECTS:rnnfast_isa_${name}>)
  set_property(TARGET rnnfast APPEND PROPERTY RNNFAST_ISA_OBJECTS $<TARGET_OBJECTS:rnnfast_isa_${name}>)
  string(TOUPPER ${name} upper)
  target_compile_definitions(rnnfast PRIVATE RNNFAST_HAVE_${upper})
endfunction()
