// The library's table: devices, memory, streams and events here, kernels in their own files.
#include <cstdio>
#include <new>

#include "kernels/cuda/gpu_call.cuh"
#include "kernels/cuda/gpu_kernels.cuh"

namespace holdfast {
namespace {

#define RETURN_IF_FAILED(call)                       \
  if (const int32_t code = (call); code != kGpuOk) { \
    return code;                                     \
  }

int32_t CountDevices(int32_t* count) {
  *count = 0;
  int found = 0;
  RETURN_IF_FAILED(Check(cudaGetDeviceCount(&found), "looking for GPUs"));
  *count = found;
  return kGpuOk;
}

int32_t Open(int32_t ordinal, GpuDevice** device) {
  *device = nullptr;
  int32_t count = 0;
  RETURN_IF_FAILED(CountDevices(&count));
  if (ordinal < 0 || ordinal >= count) {
    return Fail(kGpuNoDevice, "opening the GPU", "there is none of this number");
  }
  RETURN_IF_FAILED(Use(ordinal));
  RETURN_IF_FAILED(Check(cudaFree(nullptr), "opening the GPU"));  // makes the context
  *device = new (std::nothrow) GpuDevice{ordinal};
  return *device != nullptr ? kGpuOk : Fail(kGpuOutOfMemory, "opening the GPU", "no memory");
}

void Close(GpuDevice* device) { delete device; }

int32_t Info(GpuDevice* device, GpuInfo* info) {
  RETURN_IF_FAILED(Use(device->ordinal));
  cudaDeviceProp properties{};
  RETURN_IF_FAILED(
      Check(cudaGetDeviceProperties(&properties, device->ordinal), "asking what the GPU is"));
  size_t free_bytes = 0, total_bytes = 0;
  RETURN_IF_FAILED(Check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the GPU's memory"));
  int driver = 0, runtime = 0;
  RETURN_IF_FAILED(Check(cudaDriverGetVersion(&driver), "asking for the driver's version"));
  RETURN_IF_FAILED(Check(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version"));
  *info = {.name = {},
           .major = properties.major,
           .minor = properties.minor,
           .num_processors = properties.multiProcessorCount,
           .shared_bytes_max = static_cast<int32_t>(properties.sharedMemPerBlockOptin),
           .total_bytes = static_cast<int64_t>(total_bytes),
           .free_bytes = static_cast<int64_t>(free_bytes),
           .l2_bytes = properties.l2CacheSize,
           .driver_version = driver,
           .runtime_version = runtime};
  std::snprintf(info->name, sizeof info->name, "%.*s", static_cast<int>(sizeof info->name - 1),
                properties.name);
  return kGpuOk;
}

int32_t Allocate(GpuDevice* device, size_t bytes, void** memory) {
  *memory = nullptr;
  RETURN_IF_FAILED(Use(device->ordinal));
  return Check(cudaMalloc(memory, bytes), "taking memory of the GPU");
}

int32_t Release(GpuDevice* device, void* memory) {
  RETURN_IF_FAILED(Use(device->ordinal));
  return Check(cudaFree(memory), "giving back memory of the GPU");
}

int32_t AllocateHost(GpuDevice* device, size_t bytes, void** memory) {
  *memory = nullptr;
  RETURN_IF_FAILED(Use(device->ordinal));
  return Check(cudaHostAlloc(memory, bytes, cudaHostAllocDefault), "taking pinned memory");
}

int32_t ReleaseHost(GpuDevice* device, void* memory) {
  RETURN_IF_FAILED(Use(device->ordinal));
  return Check(cudaFreeHost(memory), "giving back pinned memory");
}

int32_t MakeStream(GpuDevice* device, GpuStream** stream) {
  *stream = nullptr;
  RETURN_IF_FAILED(Use(device->ordinal));
  cudaStream_t made = nullptr;
  RETURN_IF_FAILED(
      Check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream"));
  *stream = new (std::nothrow) GpuStream{device->ordinal, made};
  return *stream != nullptr ? kGpuOk : Fail(kGpuOutOfMemory, "making a stream", "no memory");
}

int32_t ReleaseStream(GpuStream* stream) {
  const GpuStream gone = *stream;
  delete stream;
  RETURN_IF_FAILED(Use(gone.ordinal));
  return Check(cudaStreamDestroy(gone.stream), "giving back a stream");
}

int32_t MakeEvent(GpuDevice* device, GpuEvent** event) {
  *event = nullptr;
  RETURN_IF_FAILED(Use(device->ordinal));
  cudaEvent_t made = nullptr;
  RETURN_IF_FAILED(Check(cudaEventCreate(&made), "making an event"));
  *event = new (std::nothrow) GpuEvent{device->ordinal, made};
  return *event != nullptr ? kGpuOk : Fail(kGpuOutOfMemory, "making an event", "no memory");
}

int32_t ReleaseEvent(GpuEvent* event) {
  const GpuEvent gone = *event;
  delete event;
  RETURN_IF_FAILED(Use(gone.ordinal));
  return Check(cudaEventDestroy(gone.event), "giving back an event");
}

int32_t Record(GpuStream* stream, GpuEvent* event) {
  RETURN_IF_FAILED(Use(stream->ordinal));
  return Check(cudaEventRecord(event->event, stream->stream), "marking a place in a stream");
}

int32_t WaitFor(GpuStream* stream, GpuEvent* event) {
  RETURN_IF_FAILED(Use(stream->ordinal));
  return Check(cudaStreamWaitEvent(stream->stream, event->event, 0), "having a stream wait");
}

int32_t Wait(GpuStream* stream) {
  RETURN_IF_FAILED(Use(stream->ordinal));
  return Check(cudaStreamSynchronize(stream->stream), "waiting for the GPU");
}

int32_t IsDone(GpuEvent* event, int32_t* done) {
  *done = 0;
  RETURN_IF_FAILED(Use(event->ordinal));
  const cudaError_t state = cudaEventQuery(event->event);
  if (state == cudaErrorNotReady) return kGpuOk;
  RETURN_IF_FAILED(Check(state, "asking how far the GPU is"));
  *done = 1;
  return kGpuOk;
}

int32_t Milliseconds(GpuEvent* begin, GpuEvent* end, float* elapsed) {
  RETURN_IF_FAILED(Use(begin->ordinal));
  return Check(cudaEventElapsedTime(elapsed, begin->event, end->event), "timing the GPU");
}

int32_t Copy(GpuStream* stream, void* to, const void* from, size_t bytes) {
  RETURN_IF_FAILED(Use(stream->ordinal));
  return Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream->stream),
               "copying to or from the GPU");
}

int32_t Fill(GpuStream* stream, void* to, uint8_t value, size_t bytes) {
  RETURN_IF_FAILED(Use(stream->ordinal));
  return Check(cudaMemsetAsync(to, value, bytes, stream->stream), "filling memory of the GPU");
}

#undef RETURN_IF_FAILED

// A call of a kernel: on the stream's device.
template <typename Call, int32_t (*kLaunch)(cudaStream_t, const Call&)>
int32_t On(GpuStream* stream, const Call* call) {
  if (const int32_t code = Use(stream->ordinal); code != kGpuOk) return code;
  return kLaunch(stream->stream, *call);
}

constexpr GpuLibrary kLibrary = {
    .version = kGpuLibraryVersion,
    .error_text = ErrorText,
    .count_devices = CountDevices,
    .open = Open,
    .close = Close,
    .info = Info,
    .allocate = Allocate,
    .release = Release,
    .allocate_host = AllocateHost,
    .release_host = ReleaseHost,
    .make_stream = MakeStream,
    .release_stream = ReleaseStream,
    .make_event = MakeEvent,
    .release_event = ReleaseEvent,
    .record = Record,
    .wait_for = WaitFor,
    .wait = Wait,
    .is_done = IsDone,
    .milliseconds = Milliseconds,
    .copy = Copy,
    .fill = Fill,
    .rms_norm = On<GpuRmsNorm, RmsNorm>,
    .embed = On<GpuEmbed, Embed>,
    .swiglu = On<GpuSwiglu, Swiglu>,
    .rope_write_kv = On<GpuRopeWriteKv, RopeWriteKv>,
};

}  // namespace

extern "C" const GpuLibrary* HoldfastGpuLibrary(uint32_t version) {
  return version == kGpuLibraryVersion ? &kLibrary : nullptr;
}

}  // namespace holdfast
