// For tests: the GPU library, one opened device, and numbers on it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/gpu_loader.h"
#include "kernels/half.h"

namespace holdfast {

// The library that HOLDFAST_GPU_LIBRARY names when the tests run, or else was built with them.
inline const GpuLibrary* TestLibrary(std::string& error) {
  const char* named = std::getenv("HOLDFAST_GPU_LIBRARY");
#ifdef HOLDFAST_GPU_LIBRARY
  const std::string built = HOLDFAST_GPU_LIBRARY;
#else
  const std::string built;
#endif
  return OpenGpuLibrary(named != nullptr ? named : built, error);
}

inline uint16_t Bf16OfFloat(float x) {  // to nearest even; no NaN comes up here
  const uint32_t bits = BitsOfFloat(x);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline size_t NumberBytes(GpuDtype dtype) { return dtype == kGpuF32 ? 4 : 2; }

inline std::vector<uint8_t> Stored(const std::vector<float>& numbers, GpuDtype dtype) {
  std::vector<uint8_t> bytes(numbers.size() * NumberBytes(dtype));
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (dtype == kGpuF32) {
      std::memcpy(&bytes[4 * i], &numbers[i], 4);
    } else {
      const uint16_t half = dtype == kGpuF16 ? HalfOfFloat(numbers[i]) : Bf16OfFloat(numbers[i]);
      std::memcpy(&bytes[2 * i], &half, 2);
    }
  }
  return bytes;
}

inline std::vector<float> Numbers(const std::vector<uint8_t>& bytes, GpuDtype dtype) {
  std::vector<float> numbers(bytes.size() / NumberBytes(dtype));
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (dtype == kGpuF32) {
      std::memcpy(&numbers[i], &bytes[4 * i], 4);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, &bytes[2 * i], 2);
      numbers[i] = dtype == kGpuF16 ? FloatOfHalf(half) : FloatOfBits(uint32_t{half} << 16);
    }
  }
  return numbers;
}

// What `numbers` are once they have been stored: the twin must start from the same.
inline std::vector<float> Rounded(const std::vector<float>& numbers, GpuDtype dtype) {
  return Numbers(Stored(numbers, dtype), dtype);
}

// Every test of it is skipped where no GPU can be opened.
class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string error;
    gpu_ = TestLibrary(error);
    if (gpu_ == nullptr) GTEST_SKIP() << error;
    if (gpu_->open(0, &device_) != kGpuOk) GTEST_SKIP() << gpu_->error_text();
    Must(gpu_->make_stream(device_, &stream_));
  }

  void TearDown() override {
    if (device_ == nullptr) return;
    for (void* memory : taken_) Must(gpu_->release(device_, memory));
    Must(gpu_->release_stream(stream_));
    gpu_->close(device_);
  }

  void Must(int32_t code) { ASSERT_EQ(code, kGpuOk) << gpu_->error_text(); }

  void* Put(const void* bytes, size_t size) {
    void* memory = nullptr;
    Must(gpu_->allocate(device_, size, &memory));
    taken_.push_back(memory);
    Must(gpu_->copy(stream_, memory, bytes, size));
    Must(gpu_->wait(stream_));
    return memory;
  }
  void* Put(const std::vector<float>& numbers, GpuDtype dtype) {
    const std::vector<uint8_t> bytes = Stored(numbers, dtype);
    return Put(bytes.data(), bytes.size());
  }
  template <typename T>
  T* PutAll(const std::vector<T>& values) {
    return static_cast<T*>(Put(values.data(), values.size() * sizeof(T)));
  }

  std::vector<uint8_t> Bytes(const void* memory, size_t size) {
    std::vector<uint8_t> bytes(size);
    Must(gpu_->copy(stream_, bytes.data(), memory, size));
    Must(gpu_->wait(stream_));
    return bytes;
  }
  std::vector<float> Get(const void* memory, size_t count, GpuDtype dtype) {
    return Numbers(Bytes(memory, count * NumberBytes(dtype)), dtype);
  }

  const GpuLibrary* gpu_ = nullptr;
  GpuDevice* device_ = nullptr;
  GpuStream* stream_ = nullptr;

 private:
  std::vector<void*> taken_;
};

}  // namespace holdfast
