# xvec_add_kernel(<name> <source> <processor> <flag>...)
#
# Adds one kernel for one instruction set. Its file is an object library of its own, so that the flags reach
# nothing else; dispatch.cpp sees XVEC_KERNEL_<NAME>=1 where it was compiled. XVEC_KERNELS lists the names.
function(xvec_add_kernel name source processor)
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" here)
  string(REPLACE "amd64" "x86_64" here "${here}")
  if(NOT here STREQUAL processor)
    return()
  endif()
  add_library(xvec_kernel_${name} OBJECT "${source}")
  target_include_directories(xvec_kernel_${name} PRIVATE "${PROJECT_SOURCE_DIR}/cpp/include")
  target_compile_options(xvec_kernel_${name} PRIVATE ${ARGN})
  target_link_libraries(xvec_kernel_${name} PRIVATE xvec_options)
  target_sources(xvec PRIVATE $<TARGET_OBJECTS:xvec_kernel_${name}>)
  string(TOUPPER "${name}" upper)
  set_property(SOURCE src/dispatch.cpp APPEND PROPERTY COMPILE_DEFINITIONS "XVEC_KERNEL_${upper}=1")
  set_property(GLOBAL APPEND PROPERTY XVEC_KERNELS "${name}")
endfunction()
