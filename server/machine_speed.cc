#include "server/machine_speed.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/page_buffer.h"

namespace holdfast {
namespace {

constexpr int32_t kRoundsPerCall = 4096;  // some 20 us

// What one thread does of the work, once; returns how much it was.
using Work = std::function<double()>;

double SpeedOf(const Work& work, absl::Duration length) {
  double done = 0.0;
  const absl::Time begin = SteadyNow();
  absl::Duration elapsed;
  do {
    done += work();
    elapsed = SteadyNow() - begin;
  } while (elapsed < length);
  return done / absl::ToDoubleSeconds(elapsed);
}

// `work(thread)` makes what that thread does; called on the thread itself, so that the memory it
// writes is near.
Spread MeasureTogether(int32_t threads, const SpeedSamples& samples,
                       const std::function<Work(int32_t)>& work) {
  CHECK(threads > 0 && samples.count > 0);
  const auto num_samples = static_cast<size_t>(samples.count) + 1;
  std::vector<std::vector<double>> speeds(static_cast<size_t>(threads));
  std::barrier together(threads);
  const auto measure = [&](int32_t thread) {
    const Work mine = work(thread);
    for (size_t i = 0; i < num_samples; ++i) {
      together.arrive_and_wait();
      speeds[static_cast<size_t>(thread)].push_back(SpeedOf(mine, samples.length));
    }
  };
  std::vector<std::thread> others;
  for (int32_t thread = 1; thread < threads; ++thread) others.emplace_back(measure, thread);
  measure(0);
  for (std::thread& other : others) other.join();
  std::vector<double> sums;
  for (size_t i = 1; i < num_samples; ++i) {
    double sum = 0.0;
    for (const std::vector<double>& of_thread : speeds) sum += of_thread[i];
    sums.push_back(sum);
  }
  return SpreadOf(std::move(sums));
}

}  // namespace

Spread MeasurePeak(const PeakKernel& kernel, int32_t threads, const SpeedSamples& samples) {
  CHECK(kernel.run != nullptr);
  return MeasureTogether(threads, samples, [&](int32_t) -> Work {
    return [&kernel] {
      const double done = kernel.run(kRoundsPerCall);
      CHECK(done > 0.0);  // and so it was computed
      return 2.0 * static_cast<double>(kRoundsPerCall * kernel.multiply_adds_per_round);
    };
  });
}

absl::StatusOr<Spread> MeasureRead(const PeakKernels& peaks, size_t working_set_bytes,
                                   int32_t threads, const SpeedSamples& samples) {
  CHECK(threads > 0);
  const size_t part =
      std::max(working_set_bytes / static_cast<size_t>(threads) / kReadBytes, size_t{1}) *
      kReadBytes;
  std::vector<PageBuffer> buffers;
  for (int32_t thread = 0; thread < threads; ++thread) {
    std::optional<PageBuffer> buffer = PageBuffer::Map(part);
    if (!buffer) {
      return absl::ResourceExhaustedError(
          Concat("no memory for a working set of ", working_set_bytes, " bytes"));
    }
    buffers.push_back(*std::move(buffer));
  }
  std::atomic<uint64_t> seen{0};  // uses what was read
  return MeasureTogether(threads, samples, [&](int32_t thread) -> Work {
    std::byte* const data = buffers[static_cast<size_t>(thread)].data();
    std::fill_n(data, part, std::byte{1});  // pages that nobody wrote are one page of zeros
    return [&peaks, &seen, data, part] {
      seen.fetch_xor(peaks.read(data, part), std::memory_order_relaxed);
      return static_cast<double>(part);
    };
  });
}

}  // namespace holdfast
