# The CUDA compiler and runtime, for kernels/cuda. HOLDFAST_CUDA_ROOT: a toolkit's folder with bin/nvcc,
# include and lib64; ./dev build cuda makes one out of NVIDIA's wheels where none is installed.
set(HOLDFAST_CUDA_ROOT "" CACHE PATH "CUDA toolkit 13.0 or newer")
set(HOLDFAST_CUDA_ARCHITECTURES "80-real;89-real;90a-real;100-real;90-virtual" CACHE STRING
    "GPUs that the library has code for; one alone makes a build for trying things short")
if(NOT EXISTS "${HOLDFAST_CUDA_ROOT}/bin/nvcc")
  message(FATAL_ERROR "HOLDFAST_CUDA_ROOT (`${HOLDFAST_CUDA_ROOT}`) has no bin/nvcc; run ./dev build cuda, "
                      "which fetches one, or set it to an installed toolkit's folder")
endif()
set(CMAKE_CUDA_COMPILER "${HOLDFAST_CUDA_ROOT}/bin/nvcc")
set(CUDAToolkit_ROOT "${HOLDFAST_CUDA_ROOT}")
set(CMAKE_CUDA_ARCHITECTURES ${HOLDFAST_CUDA_ARCHITECTURES})
add_library(CUDA::nvToolsExt INTERFACE IMPORTED)  # CUDA 13 has none, and CMake 3.25 asks for it
enable_language(CUDA)
# nvcc has had C++20 since 12.0, which CMake 3.25.1 does not know.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
find_package(CUDAToolkit 13.0 REQUIRED)
