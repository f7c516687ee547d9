# `cmake --install` gives another CMake project find_package(xvec) and the target xvec::xvec. Our GMP, when it
# is not the system's, goes beside the library, so that the installed folder is complete and may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(xvec_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/xvec")
if(XTRACE_SYSTEM_GMP)
  set(xvec_gmp_file "")
else()
  get_filename_component(xvec_gmp_file "${XVEC_GMP_LIBRARY}" NAME)
  install(FILES "${XVEC_GMP_LIBRARY}" DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT xvec)
endif()

install(TARGETS xvec EXPORT xvecTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT xvec)
install(DIRECTORY include/xvec DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT xvec
        FILES_MATCHING PATTERN "*.h")
install(EXPORT xvecTargets NAMESPACE xvec:: DESTINATION "${xvec_cmake_dir}" COMPONENT xvec)
configure_package_config_file(cmake/xvecConfig.cmake.in xvecConfig.cmake INSTALL_DESTINATION "${xvec_cmake_dir}"
                              PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(xvecConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/xvecConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/xvecConfigVersion.cmake"
        DESTINATION "${xvec_cmake_dir}" COMPONENT xvec)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/NOTICE"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/xvec" COMPONENT xvec)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/licenses/" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/xvec"
        COMPONENT xvec)
