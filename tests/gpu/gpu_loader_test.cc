// Where there is no library or no GPU, a sentence says so.
#include "kernels/gpu_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/gpu/gpu_memory.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

TEST(GpuLoaderTest, ALibraryThatIsNotThereSaysWhatToDo) {
  std::string error;
  EXPECT_EQ(OpenGpuLibrary("/nowhere/libholdfast_gpu.so", error), nullptr);
  EXPECT_THAT(error, HasSubstr("/nowhere/libholdfast_gpu.so"));
  EXPECT_THAT(error, HasSubstr("serve on the CPU"));
}

TEST(GpuLoaderTest, AMachineWithoutAGpuIsToldSoAndGoesOn) {
  std::string error;
  const GpuLibrary* gpu = TestLibrary(error);
  if (gpu == nullptr) GTEST_SKIP() << error;
  int32_t count = 0;
  if (gpu->count_devices(&count) == kGpuOk && count > 0) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(count, 0);
  GpuDevice* device = nullptr;
  EXPECT_EQ(gpu->open(0, &device), kGpuNoDevice);
  EXPECT_EQ(device, nullptr);
  EXPECT_THAT(std::string(gpu->error_text()), HasSubstr("GPU"));
}

}  // namespace
}  // namespace holdfast
