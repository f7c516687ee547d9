# Defines xvec::gmp. By default GMP is the one that the gmpy2 wheel carries (header and shared library), so
# that a build needs a C++ compiler and nothing from the system; XTRACE_SYSTEM_GMP is for packagers.
# Sets XVEC_GMP_LIBRARY, the file to ship beside what links it.

if(XTRACE_SYSTEM_GMP)
  find_path(XVEC_GMP_INCLUDE_DIR gmp.h REQUIRED)
  find_library(XVEC_GMP_LIBRARY gmp REQUIRED)
else()
  # A build outside pip (the C++ tests) takes the project's own environment when there is one.
  if(NOT DEFINED Python_EXECUTABLE AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
    set(Python_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  endif()
  find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND
      "${Python_EXECUTABLE}" -c
      "import importlib.util as u; s = u.find_spec('gmpy2'); print(s.submodule_search_locations[0] if s else '', end='')"
    OUTPUT_VARIABLE gmpy2_dir COMMAND_ERROR_IS_FATAL ANY)
  file(TO_CMAKE_PATH "${gmpy2_dir}" gmpy2_dir)
  file(GLOB gmpy2_gmp "${gmpy2_dir}/../gmpy2.libs/libgmp-*.so*" "${gmpy2_dir}/../gmpy2.libs/libgmp.so*")
  if(gmpy2_dir STREQUAL "" OR gmpy2_gmp STREQUAL "" OR NOT EXISTS "${gmpy2_dir}/gmp.h")
    message(FATAL_ERROR "No gmpy2 wheel with gmp.h and libgmp in ${Python_EXECUTABLE} (found: '${gmpy2_dir}'). "
                        "Install gmpy2>=2.2 there, or configure with -DXTRACE_SYSTEM_GMP=ON.")
  endif()
  list(GET gmpy2_gmp 0 gmpy2_gmp)
  file(REAL_PATH "${gmpy2_gmp}" gmpy2_gmp)
  # Forced: a reconfigured build must follow an upgraded gmpy2, whose library has another name.
  set(XVEC_GMP_INCLUDE_DIR "${gmpy2_dir}" CACHE PATH "Folder of gmp.h" FORCE)
  set(XVEC_GMP_LIBRARY "${gmpy2_gmp}" CACHE FILEPATH "GMP's shared library" FORCE)
endif()

add_library(xvec::gmp SHARED IMPORTED)
set_target_properties(xvec::gmp PROPERTIES IMPORTED_LOCATION "${XVEC_GMP_LIBRARY}"
                                           INTERFACE_INCLUDE_DIRECTORIES "${XVEC_GMP_INCLUDE_DIR}")
