# What is installed, and the Debian package of it (`./dev package`; CPack). Only what `holdfast` and
# `manual` build: installing builds no tests.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
find_program(HOLDFAST_PYTHON python3 REQUIRED)

set(manual "${CMAKE_BINARY_DIR}/manual")
set(manual_files holdfast.1 holdfast.bash _holdfast holdfast.fish)
list(TRANSFORM manual_files PREPEND "${manual}/")
add_custom_command(
  OUTPUT ${manual_files} "${manual}/holdfast.1.gz"
  COMMAND "${HOLDFAST_PYTHON}" "${CMAKE_SOURCE_DIR}/scripts/manual.py" $<TARGET_FILE:holdfast> "${manual}"
  COMMAND gzip -9 -n -k -f "${manual}/holdfast.1"
  DEPENDS holdfast "${CMAKE_SOURCE_DIR}/scripts/manual.py"
  VERBATIM)
add_custom_target(manual DEPENDS ${manual_files})

install(TARGETS holdfast RUNTIME DESTINATION bin)
install(FILES "${manual}/holdfast.1.gz" DESTINATION share/man/man1)
install(FILES "${manual}/holdfast.bash" DESTINATION share/bash-completion/completions RENAME holdfast)
install(FILES "${manual}/_holdfast" DESTINATION share/zsh/vendor-completions)
install(FILES "${manual}/holdfast.fish" DESTINATION share/fish/vendor_completions.d)
install(FILES deploy/systemd/holdfast.service DESTINATION lib/systemd/system)
install(FILES deploy/holdfast.example.yaml DESTINATION share/doc/holdfast)
install(FILES NOTICE DESTINATION share/doc/holdfast RENAME copyright)
install(FILES deploy/debian/holdfast.yaml DESTINATION /etc/holdfast)

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)  # for /etc
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_VENDOR Holdfast)
set(CPACK_PACKAGE_CONTACT "Holdfast <root@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "daemon that serves a language model to many tenants")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"One process that serves a language model over HTTP, by OpenAI's and Anthropic's
interfaces, and over gRPC. Answers do not depend on load, tenants are kept
apart by their keys, and everything has a bound. It comes without a model.")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser, procps")  # procps: the unit's kill
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    "${CMAKE_SOURCE_DIR}/deploy/debian/conffiles;${CMAKE_SOURCE_DIR}/deploy/debian/postinst;${CMAKE_SOURCE_DIR}/deploy/debian/prerm;${CMAKE_SOURCE_DIR}/deploy/debian/postrm")
include(CPack)
