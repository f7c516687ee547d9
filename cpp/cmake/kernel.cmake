# xvec_add_kernel(<name> <processor> SOURCES <file>... FLAGS <flag>... [PLAIN <file>...])
#
# Adds one kernel for one instruction set. SOURCES form an object library of their own, so that the flags reach
# nothing else; PLAIN are its files that any processor of the family can run. dispatch.cpp sees
# XVEC_KERNEL_<NAME>=1 where the kernel was compiled. XVEC_KERNELS lists the names. Kernels throw nothing; compiled
# without exceptions, they also leave no weak reference to the run-time support for them.
function(xvec_add_kernel name processor)
  cmake_parse_arguments(PARSE_ARGV 2 kernel "" "" "SOURCES;FLAGS;PLAIN")
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" here)
  string(REPLACE "amd64" "x86_64" here "${here}")
  if(NOT here STREQUAL processor)
    return()
  endif()
  add_library(xvec_kernel_${name} OBJECT ${kernel_SOURCES})
  target_include_directories(xvec_kernel_${name} PRIVATE "${PROJECT_SOURCE_DIR}/cpp/include")
  target_compile_options(xvec_kernel_${name} PRIVATE ${kernel_FLAGS} -fno-exceptions)
  target_link_libraries(xvec_kernel_${name} PRIVATE xvec_options)
  if(XTRACE_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Thousands of loads and stores in straight lines: with every check in line, one file takes minutes and 2 GB.
    # Fewer of them where the optimiser may work (avx2's tests take half the time), but ifma takes minutes again.
    if(name STREQUAL "ifma")
      set(level -O1)
    endif()
    set_property(SOURCE ${kernel_SOURCES} APPEND PROPERTY COMPILE_OPTIONS ${level}
                 -fno-sanitize=undefined --param=asan-instrumentation-with-call-threshold=0)
  endif()
  target_sources(xvec PRIVATE ${kernel_PLAIN} $<TARGET_OBJECTS:xvec_kernel_${name}>)
  string(TOUPPER "${name}" upper)
  set_property(SOURCE src/dispatch.cpp APPEND PROPERTY COMPILE_DEFINITIONS "XVEC_KERNEL_${upper}=1")
  set_property(GLOBAL APPEND PROPERTY XVEC_KERNELS "${name}")
endfunction()
