// The C interface of libholdfast_gpu.so, the one library that holds all code for NVIDIA GPUs. It is
// opened at run time (gpu_loader.h), so that a daemon starts on a machine without a driver, and
// tests of it run on a machine that has a GPU and none of our other libraries.
//
// Every call returns a GpuCode. What went wrong is then in error_text, until this thread's next
// call. Work on a stream is only queued by the call; an error of it comes from a later call or from
// wait. Pointers to device memory are the caller's to keep in bounds. Calls for one device come
// from one thread at a time; a call sets the thread's current device itself.
//
// kDeviceLost is for good: the device's memory and streams are gone, and only closing it and
// opening it anew (or a new process, where the driver wants one) helps.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace holdfast {

enum GpuCode : int32_t {
  kGpuOk = 0,
  kGpuNoDevice = 1,     // no driver, an older one than the library needs, or no such device
  kGpuOutOfMemory = 2,  // of the device or of pinned host memory; nothing else is harmed
  kGpuInvalid = 3,      // arguments that no kernel takes: a bug of the caller
  kGpuDeviceLost = 4,
};

// What activations, weights and KV are stored as. Sums are f32 throughout.
enum GpuDtype : int32_t { kGpuF32 = 0, kGpuF16 = 1, kGpuBf16 = 2 };

struct GpuDevice;  // one opened device
struct GpuStream;  // what is queued on it runs in order
struct GpuEvent;   // a place in a stream

struct GpuInfo {
  char name[128];
  int32_t major, minor;  // compute capability
  int32_t num_processors;
  int32_t shared_bytes_max;  // of one block of threads, if asked for
  int64_t total_bytes, free_bytes, l2_bytes;
  int32_t driver_version, runtime_version;  // 13000 is 13.0
};

// out[r] = x[r] * weight / sqrt(mean(x[r]^2) + eps), rows of `hidden` numbers, one after the other.
// With `residual`, x[r] + residual[r] takes x[r]'s place and is written to residual[r], rounded to
// its dtype before it is normed, as if it had been added before. out may be x.
struct GpuRmsNorm {
  const void* x;
  void* residual;  // or null
  const void* weight;
  void* out;
  int32_t rows, hidden;
  float eps;
  GpuDtype dtype;
};

// out[r] = table[tokens[r]]. Tokens outside [0, vocab) give rows of zeros.
struct GpuEmbed {
  const void* table;      // [vocab][hidden]
  const int32_t* tokens;  // [rows], on the device
  void* out;
  int32_t rows, hidden, vocab;
  GpuDtype dtype;
};

// out[r, i] = silu(x[r, i]) * x[r, size + i]: gate and up lie side by side in a row of x.
struct GpuSwiglu {
  const void* x;  // [rows][2 * size]
  void* out;      // [rows][size]
  int32_t rows, size;
  GpuDtype dtype;
};

// Rotates queries and keys and writes keys and values to the KV cache. A row of qkv has
// num_heads + 2 * num_kv_heads heads: queries, which are rotated in place, keys, values. Row r's
// key and value go to place slots[r] % 16 of block slots[r] / 16; a slot below 0 writes nothing. In
// a block a layer's and head's part has K [16][head_dim] and then V [16][head_dim].
struct GpuRopeWriteKv {
  void* qkv;
  const float* cos_sin;      // [positions][rope_dim / 2][2]
  const int32_t* positions;  // [rows], on the device, as are the slots
  const int64_t* slots;
  void* kv;             // the layer's part of block 0
  int64_t block_bytes;  // from one block to the next
  int32_t rows, num_heads, num_kv_heads, head_dim, rope_dim;
  int32_t halves;  // 1: pairs (i, i + rope_dim / 2); 0: pairs (2i, 2i + 1)
  GpuDtype dtype;  // of qkv and of the KV cache
};

inline constexpr uint32_t kGpuLibraryVersion = 1;  // of this file; another one is refused

struct GpuLibrary {
  uint32_t version;
  const char* (*error_text)();

  int32_t (*count_devices)(int32_t* count);
  int32_t (*open)(int32_t ordinal, GpuDevice** device);
  void (*close)(GpuDevice* device);  // with its streams, events and memory given back before
  int32_t (*info)(GpuDevice* device, GpuInfo* info);

  int32_t (*allocate)(GpuDevice* device, size_t bytes, void** memory);
  int32_t (*release)(GpuDevice* device, void* memory);
  int32_t (*allocate_host)(GpuDevice* device, size_t bytes, void** memory);  // pinned
  int32_t (*release_host)(GpuDevice* device, void* memory);

  int32_t (*make_stream)(GpuDevice* device, GpuStream** stream);
  int32_t (*release_stream)(GpuStream* stream);
  int32_t (*make_event)(GpuDevice* device, GpuEvent** event);
  int32_t (*release_event)(GpuEvent* event);
  int32_t (*record)(GpuStream* stream, GpuEvent* event);
  int32_t (*wait_for)(GpuStream* stream, GpuEvent* event);  // the stream waits, not the caller
  int32_t (*wait)(GpuStream* stream);                       // the caller waits
  int32_t (*is_done)(GpuEvent* event, int32_t* done);
  int32_t (*milliseconds)(GpuEvent* begin, GpuEvent* end, float* elapsed);

  // Between device and device or pinned host memory, either way.
  int32_t (*copy)(GpuStream* stream, void* to, const void* from, size_t bytes);
  int32_t (*fill)(GpuStream* stream, void* to, uint8_t value, size_t bytes);

  int32_t (*rms_norm)(GpuStream* stream, const GpuRmsNorm* call);
  int32_t (*embed)(GpuStream* stream, const GpuEmbed* call);
  int32_t (*swiglu)(GpuStream* stream, const GpuSwiglu* call);
  int32_t (*rope_write_kv)(GpuStream* stream, const GpuRopeWriteKv* call);
};

// The library's one symbol: its table, or null where it has another version.
extern "C" __attribute__((visibility("default"))) const GpuLibrary* HoldfastGpuLibrary(
    uint32_t version);
inline constexpr const char* kGpuLibrarySymbol = "HoldfastGpuLibrary";

}  // namespace holdfast
