// What a torch that was built without CUDA must be told before anything can be on `cuda`: there is one device
// with one stream, and pinned memory is memory that is remembered. Loaded before torch looks.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>

#include <mutex>
#include <set>

namespace {

using c10::Device, c10::DeviceIndex, c10::DeviceType, c10::Stream;

std::mutex pinned_mutex;
std::set<const void*> pinned;

struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* const memory = c10::alloc_cpu(size);
    const std::lock_guard<std::mutex> alone(pinned_mutex);
    pinned.insert(memory);
    return {memory, memory, &forget, Device(DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }

  static void forget(void* memory) {
    {
      const std::lock_guard<std::mutex> alone(pinned_mutex);
      pinned.erase(memory);
    }
    c10::free_cpu(memory);
  }
};

PinnedAllocator pinned_allocator;

struct Guard final : c10::impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return {DeviceType::CUDA, 0}; }
  Device getDevice() const override { return {DeviceType::CUDA, 0}; }
  Stream getStream(Device) const noexcept override { return stream(); }
  Stream exchangeStream(Stream) const noexcept override { return stream(); }
  static Stream stream() { return Stream(Stream::DEFAULT, Device(DeviceType::CUDA, 0)); }
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  bool isPinnedPtr(const void* memory) const override {
    const std::lock_guard<std::mutex> alone(pinned_mutex);
    return pinned.count(memory) > 0;
  }
};

Guard guard;

struct Start {
  Start() {
    c10::impl::device_guard_impl_registry[static_cast<size_t>(DeviceType::CUDA)].store(&guard);
    at::CUDAHooksRegistry()->Register("CUDAHooks", [](at::CUDAHooksArgs arguments) {
      return std::unique_ptr<at::CUDAHooksInterface>(new Hooks(arguments));
    });
  }
} start;

}  // namespace
