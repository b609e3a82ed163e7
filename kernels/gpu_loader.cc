#include "kernels/gpu_loader.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

namespace holdfast {
namespace {

std::string BesideTheProgram() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "";
  const std::filesystem::path file = program.parent_path() / kGpuLibraryFile;
  return std::filesystem::exists(file, error) ? file.string() : "";
}

}  // namespace

const GpuLibrary* OpenGpuLibrary(const std::string& path, std::string& error) {
  std::string file = path.empty() ? BesideTheProgram() : path;
  if (file.empty()) file = kGpuLibraryFile;
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    error = "the GPU library " + file + " cannot be opened: " + (why != nullptr ? why : "?") +
            "; build it by ./dev build cuda, or serve on the CPU";
    return nullptr;
  }
  using Symbol = const GpuLibrary* (*)(uint32_t);
  const auto symbol = reinterpret_cast<Symbol>(dlsym(library, kGpuLibrarySymbol));
  const GpuLibrary* table = symbol != nullptr ? symbol(kGpuLibraryVersion) : nullptr;
  if (table == nullptr) {
    error = "the GPU library " + file + " is of another version than this program (" +
            std::to_string(kGpuLibraryVersion) + "); build both from one checkout";
  }
  return table;
}

}  // namespace holdfast
