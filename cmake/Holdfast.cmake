# What every target of ours shares: flags, sanitizers, and the two functions by which rooms and
# tests are declared.
find_package(Threads REQUIRED)
find_package(absl CONFIG REQUIRED)

add_library(holdfast_flags INTERFACE)
target_include_directories(holdfast_flags INTERFACE "${CMAKE_SOURCE_DIR}")
# -ffp-contract=off: a*b+c is fused only where the source says fma, so that every instruction path
# and optimisation level rounds alike (promise 1).
target_compile_options(holdfast_flags INTERFACE
  -Wall -Wextra -Werror -Wno-missing-field-initializers -ffp-contract=off -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Debian's Abseil and gRPC headers are not ours to fix; thread-safety analysis is.
  target_compile_options(holdfast_flags INTERFACE -Wthread-safety)
endif()
if(HOLDFAST_SANITIZE)
  target_compile_options(holdfast_flags INTERFACE "-fsanitize=${HOLDFAST_SANITIZE}"
    -fno-sanitize-recover=all)
  target_link_options(holdfast_flags INTERFACE "-fsanitize=${HOLDFAST_SANITIZE}")
endif()
if(HOLDFAST_FUZZ)
  # The rooms report their branches to the fuzzer, which would be blind to them otherwise.
  target_compile_options(holdfast_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
find_program(HOLDFAST_MOLD mold)
if(HOLDFAST_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_link_options(holdfast_flags INTERFACE -fuse-ld=mold)
endif()

# holdfast_room(NAME SOURCES ... [ROOMS ...] [LIBS ...]): one room, one static library
# holdfast_<NAME>. ROOMS are rooms of ours, LIBS third-party targets.
function(holdfast_room name)
  cmake_parse_arguments(ARG "" "" "SOURCES;ROOMS;LIBS" ${ARGN})
  add_library(holdfast_${name} STATIC ${ARG_SOURCES})
  list(TRANSFORM ARG_ROOMS PREPEND holdfast_)
  target_link_libraries(holdfast_${name} PUBLIC holdfast_flags ${ARG_ROOMS} ${ARG_LIBS}
                                                Threads::Threads)
endfunction()

# holdfast_test(NAME SOURCES ... [ROOMS ...] [LIBS ...] [LABELS ...] [SERIAL]): one GoogleTest
# program; each of its tests is a ctest case. Tests find files of the repository through
# HOLDFAST_SOURCE_DIR and the default model through the environment variable HOLDFAST_MODEL.
# SERIAL: one ctest case for the whole program (when set-up is dear).
function(holdfast_test name)
  cmake_parse_arguments(ARG "SERIAL" "" "SOURCES;ROOMS;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  list(TRANSFORM ARG_ROOMS PREPEND holdfast_)
  target_link_libraries(${name} PRIVATE holdfast_flags ${ARG_ROOMS} ${ARG_LIBS} GTest::gmock
                                        GTest::gtest GTest::gtest_main)
  # What is tested has both sanitizers, the tests themselves that of addresses alone: half of all that
  # is compiled is tests, and it takes g++ 12 a third less (19 and 16 s become 13 and 10 s of two of
  # the longest). By source: an option of the target comes before those of what it links.
  if(HOLDFAST_SANITIZE MATCHES "undefined")
    set_property(SOURCE ${ARG_SOURCES} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=undefined)
  endif()
  # Only where it is read: what knows no path of this checkout is compiled alike in every other, and
  # found by the compiler cache.
  foreach(source ${ARG_SOURCES})
    file(STRINGS ${source} reads REGEX HOLDFAST_SOURCE_DIR LIMIT_COUNT 1)
    if(reads)
      set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
                   "HOLDFAST_SOURCE_DIR=\"${CMAKE_SOURCE_DIR}\"")
    endif()
  endforeach()
  if(NOT TARGET all_tests)
    add_custom_target(all_tests)  # what `./dev test` builds in the sanitizer presets
  endif()
  if(NOT "model" IN_LIST ARG_LABELS)  # those run no test of the real model
    add_dependencies(all_tests ${name})
  endif()
  if(ARG_SERIAL)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 1800)
  else()
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
                         PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300)
  endif()
endfunction()
