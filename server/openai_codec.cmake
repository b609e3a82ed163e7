# The OpenAI codec alone, without threads or sockets: part of the server room, and all that its fuzz
# target links, which is built where the server is not.
include_guard(GLOBAL)
find_package(nlohmann_json CONFIG REQUIRED)
set(codec_sources chat_messages.cc http_status.cc json_body.cc openai_codec.cc openai_response.cc
                  request_validator.cc)
list(TRANSFORM codec_sources PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
add_library(holdfast_openai_codec STATIC ${codec_sources})
target_link_libraries(holdfast_openai_codec PUBLIC holdfast_flags absl::any_invocable absl::status
                      absl::statusor absl::str_format absl::strings absl::time
                      nlohmann_json::nlohmann_json)
