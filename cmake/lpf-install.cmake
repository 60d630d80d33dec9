# cmake --install: the headers, the data sets' headers, the compiled backend, and what find_package(lpf) reads.
include(CMakePackageConfigHelpers)
set(lpf_package ${CMAKE_INSTALL_LIBDIR}/cmake/lpf)

install(DIRECTORY include/lpf DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.inc")
install(DIRECTORY datasets/lpf_datasets DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} OPTIONAL)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(libraries lpf_headers lpf)
if(TARGET lpf_cuda)
  list(APPEND libraries lpf_cuda)
endif()
if(TARGET lpf_mpi)
  list(APPEND libraries lpf_mpi)
endif()
if(TARGET lpf_nccl)
  list(APPEND libraries lpf_nccl)
endif()
foreach(library lpf_headers lpf_compiled lpf_cuda lpf_mpi lpf_nccl)
  if(TARGET ${library})
    string(REPLACE "lpf_" "" name ${library})
    set_target_properties(${library} PROPERTIES EXPORT_NAME ${name})
  endif()
endforeach()
install(TARGETS ${libraries} EXPORT lpf-targets)
install(EXPORT lpf-targets FILE lpf-exports.cmake NAMESPACE lpf:: DESTINATION ${lpf_package})

# lpf::compiled has an export of its own, which lpf-config.cmake reads if the library is there: the headers are installed
# without building it.
set(lpf_compiled_file "")
if(LPF_BUILD_COMPILED)
  set(lpf_compiled_file
      ${CMAKE_INSTALL_LIBDIR}/${CMAKE_STATIC_LIBRARY_PREFIX}lpf_compiled${CMAKE_STATIC_LIBRARY_SUFFIX})
  install(TARGETS lpf_compiled EXPORT lpf-compiled ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} OPTIONAL)
  install(EXPORT lpf-compiled FILE lpf-compiled-exports.cmake NAMESPACE lpf:: DESTINATION ${lpf_package})
endif()

configure_package_config_file(cmake/lpf-config.cmake.in ${PROJECT_BINARY_DIR}/lpf-config.cmake
  INSTALL_DESTINATION ${lpf_package} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lpf-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lpf-config.cmake ${PROJECT_BINARY_DIR}/lpf-config-version.cmake
              cmake/lpf-targets.cmake
        DESTINATION ${lpf_package})
