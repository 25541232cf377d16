# rnnfast_family(OUT PROCESSOR BYTE_ORDER) sets OUT to the family of a processor, by any of its names: x86_64, aarch64 or other.
function(rnnfast_family out processor byte_order)
  string(TOLOWER "${processor}" name)
  if(byte_order STREQUAL "BIG_ENDIAN" OR name MATCHES "_be$|^(s390x?|powerpc|ppc|ppc64|sparc.*)$")
    message(FATAL_ERROR "rnnfast: ${processor} is big-endian; model files and packed weights need a little-endian CPU")
  endif()
  if(name MATCHES "^(x86_64|x86-64|amd64|x64)$")
    set(${out} x86_64 PARENT_SCOPE)
  elseif(name MATCHES "^(aarch64|arm64)(e|ec|v8.*)?$")
    set(${out} aarch64 PARENT_SCOPE)
  else()
    set(${out} other PARENT_SCOPE)
  endif()
endfunction()

# rnnfast_add_isa(NAME FLAGS...) compiles cpp/src/kernels/isa_NAME.cpp with FLAGS into the library and lists it for dispatch, unless
# RNNFAST_ISAS lists others only.
# -O2 in MinSizeRel: 35 KB more than -Os, and steps of a stream are 1.2 times as fast, int8 twice; -O3 would take 50 KB more for nothing.
# What GCC's -O2 aligns and repeats for speed is 8 KB of it, and gains these kernels nothing.
# Nothing is thrown through a kernel, so that a release needs no tables for it: 35 KB.
# No exceptions, no RTTI, no LTO and no precompiled header: only the table may leave this file; any other code of this ISA must not.
function(rnnfast_add_isa name)
  if(RNNFAST_ISAS AND NOT name IN_LIST RNNFAST_ISAS)
    return()
  endif()
  if(RNNFAST_ZIG) # takes names of processors alone
    list(TRANSFORM ARGN REPLACE "^-march=armv8[.]2-a" "-mcpu=generic")
  endif()
  add_library(rnnfast_isa_${name} OBJECT cpp/src/kernels/isa_${name}.cpp)
  target_include_directories(rnnfast_isa_${name} PRIVATE cpp/src)
  target_link_libraries(rnnfast_isa_${name} PRIVATE rnnfast_options)
  set(gcc_small -falign-functions=1 -falign-loops=1 -falign-jumps=1 -fno-tree-vectorize -fno-gcse -fno-tree-partial-pre)
  # GCC's own AVX-512 header reads an undefined register on purpose and warns about it (GCC bug 105593).
  target_compile_options(rnnfast_isa_${name} PRIVATE $<IF:$<CONFIG:MinSizeRel>,-O2,-O3> ${ARGN} -fno-exceptions -fno-rtti
                                                     $<$<CONFIG:Release,MinSizeRel>:-fno-asynchronous-unwind-tables>
                                                     "$<$<AND:$<CONFIG:MinSizeRel>,$<CXX_COMPILER_ID:GNU>>:${gcc_small}>"
                                                     "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
  set_target_properties(rnnfast_isa_${name} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF UNITY_BUILD OFF
                                                       DISABLE_PRECOMPILE_HEADERS ON)
  target_sources(rnnfast PRIVATE $<TARGET_OBJECTS:rnnfast_isa_${name}>)
  set_property(TARGET rnnfast APPEND PROPERTY RNNFAST_ISA_OBJECTS $<TARGET_OBJECTS:rnnfast_isa_${name}>)
  set_property(TARGET rnnfast APPEND PROPERTY RNNFAST_ISAS ${name})
  string(TOUPPER ${name} upper)
  set_property(SOURCE cpp/src/runtime/dispatch.cpp APPEND PROPERTY COMPILE_DEFINITIONS RNNFAST_HAVE_${upper})
endfunction()
