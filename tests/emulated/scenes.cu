// What the emulator is asked by test_emulator.py: the scene that the command line names.
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/mma_cuda.h"

using namespace renderpretrain;

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                            \
    }                                                                          \
  } while (false)

constexpr unsigned kAll = ~0u;

// Every thread of every block, in three dimensions, has its own place.
__global__ void places_kernel(int* seen) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  atomicAdd(seen + block * blockDim.x * blockDim.y * blockDim.z + thread, 1);
}

void places() {
  std::vector<int> seen(2 * 3 * 2 * 4 * 5 * 3);
  places_kernel<<<dim3(2, 3, 2), dim3(4, 5, 3)>>>(seen.data());
  CHECK(cudaGetLastError() == cudaSuccess);
  for (const int count : seen) CHECK(count == 1);
}

// A sum over a block through shared memory, right in every order of threads.
__global__ void sum_kernel(const int* values, int* sums) {
  __shared__ int parts[64], total;
  parts[threadIdx.x] = values[blockIdx.x * 64 + threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) {
    total = 0;
    for (int i = 0; i < 64; ++i) total += parts[i];
  }
  __syncthreads();
  if (threadIdx.x == 63) sums[blockIdx.x] = total;
}

void barriers() {
  std::vector<int> values(5 * 64), sums(5);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i * i % 97);
  sum_kernel<<<5, 64>>>(values.data(), sums.data());
  for (int block = 0; block < 5; ++block) {
    int expected = 0;
    for (int i = 0; i < 64; ++i) expected += values[block * 64 + i];
    CHECK(sums[block] == expected);
  }
}

__global__ void lanes_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int* const mine = out + 8 * lane;
  mine[0] = __shfl_sync(kAll, lane, 5);
  mine[1] = __shfl_up_sync(kAll, lane, 3);
  mine[2] = __shfl_down_sync(kAll, lane, 4, 8);
  mine[3] = __shfl_xor_sync(kAll, lane, 1);
  mine[4] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  mine[5] = __any_sync(kAll, lane == 31);
  mine[6] = __all_sync(kAll, lane < 31);
  // Half of the warp among itself.
  mine[7] = lane < 16 ? __shfl_sync(0xffffu, lane, 15) : 0;
}

void lanes() {
  std::vector<int> out(8 * 32);
  lanes_kernel<<<1, 32>>>(out.data());
  int multiples = 0;
  for (int lane = 0; lane < 32; lane += 3) multiples |= 1 << lane;
  for (int lane = 0; lane < 32; ++lane) {
    const int* const mine = out.data() + 8 * lane;
    CHECK(mine[0] == 5 && mine[1] == (lane < 3 ? lane : lane - 3));
    CHECK(mine[2] == (lane % 8 < 4 ? lane + 4 : lane) && mine[3] == (lane ^ 1));
    CHECK(mine[4] == multiples && mine[5] == 1 && mine[6] == 0 && mine[7] == (lane < 16 ? 15 : 0));
  }
}

// sum += a * b as mma_cuda.h says that it lies, beside a loop; numbers small enough to be exact in any type.
template <int kDepth>
__global__ void product_kernel(const float* a, const float* b, float* sum, int kind) {
  const int group = static_cast<int>(threadIdx.x) / 4, of = static_cast<int>(threadIdx.x) % 4;
  uint32_t left[4], right[2];
  const auto word = [&](const float* from, int step) {
    const float first = from[0], second = from[step];
    if (kDepth == 8) return to_tf32(first);
    if (kind == 1) return __float_as_uint(first) >> 16 | (__float_as_uint(second) & 0xffff0000u);
    return __half_as_ushort(__float2half_rn(first)) |
           static_cast<uint32_t>(__half_as_ushort(__float2half_rn(second))) << 16;
  };
  const int each = kDepth == 8 ? 1 : 2;  // numbers in a word
  for (int i = 0; i < 4; ++i) left[i] = word(a + (group + i % 2 * 8) * kDepth + each * (of + i / 2 * 4), 1);
  for (int i = 0; i < 2; ++i) right[i] = word(b + each * (of + 4 * i) * 8 + group, 8);
  float mine[4];
  for (int i = 0; i < 4; ++i) mine[i] = sum[(group + i / 2 * 8) * 8 + 2 * of + i % 2];
  if (kind == 0) multiply_tf32(left, right, mine);
  if (kind == 1) multiply_bf16(left, right, mine);
  if (kind == 2) multiply_fp16(left, right, mine);
  for (int i = 0; i < 4; ++i) sum[(group + i / 2 * 8) * 8 + 2 * of + i % 2] = mine[i];
}

template <int kDepth>
void check_product(int kind) {
  std::vector<float> a(16 * kDepth), b(kDepth * 8 + 8), sum(16 * 8), expected(16 * 8);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 7 % 31) - 15);
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 5 % 29) - 14);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      sum[row * 8 + column] = expected[row * 8 + column] = static_cast<float>(row - column);
      for (int k = 0; k < kDepth; ++k) expected[row * 8 + column] += a[row * kDepth + k] * b[k * 8 + column];
    }
  }
  product_kernel<kDepth><<<1, 32>>>(a.data(), b.data(), sum.data(), kind);
  CHECK(sum == expected);
}

void products() {
  check_product<8>(0);
  check_product<16>(1);
  check_product<16>(2);
  // Halves away from zero, of the last of 10 bits.
  CHECK(to_tf32(1.0f + 1.0f / 2048) == __float_as_uint(1.0f + 1.0f / 1024));
  CHECK(to_tf32(1.0f + 1.0f / 4096) == __float_as_uint(1.0f));
}

// A copy is there once it was waited for, and not before; the last batches may be left.
__global__ void copies_kernel(const float4* from, float* out) {
  __shared__ float4 tile[2];
  for (int i = 0; i < 2; ++i) {
    __pipeline_memcpy_async(tile + i, from + i, sizeof(float4), i == 1 ? 8 : 0);
    __pipeline_commit();
  }
  out[0] = tile[0].x;
  __pipeline_wait_prior(1);
  out[1] = tile[0].x, out[2] = tile[1].x;
  __pipeline_wait_prior(0);
  out[3] = tile[1].x, out[4] = tile[1].z;
}

void copies() {
  const float4 from[2] = {make_float4(1, 2, 3, 4), make_float4(5, 6, 7, 8)};
  float out[5] = {};
  copies_kernel<<<1, 1>>>(from, out);
  CHECK(std::isnan(out[0]) && out[1] == 1 && std::isnan(out[2]) && out[3] == 5 && out[4] == 0);
}

__global__ void dynamic_kernel(float* out, int count) {
  extern __shared__ __align__(16) float memory[];
  for (int i = threadIdx.x; i < count; i += 32) memory[i] = static_cast<float>(i);
  __syncthreads();
  out[threadIdx.x] = memory[count - 1 - threadIdx.x];
}

// More than 48 KiB must be asked for, and there is an end to it.
void limits() {
  float out[32] = {};
  const int count = 20 << 10;
  dynamic_kernel<<<1, 32, count * sizeof(float)>>>(out, count);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration && cudaGetLastError() == cudaSuccess);
  CHECK(cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 80 << 10) ==
        cudaSuccess);
  dynamic_kernel<<<1, 32, count * sizeof(float)>>>(out, count);
  CHECK(cudaGetLastError() == cudaSuccess && out[31] == count - 32);
  CHECK(cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10) ==
        cudaErrorInvalidValue);
  dynamic_kernel<<<1, 1025>>>(out, 1);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  dynamic_kernel<<<dim3(1, 1 << 16), 1>>>(out, 1);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
}

// What hangs, or does as it likes, on hardware.
__global__ void wrong_kernel(int kind, float* out) {
  const int thread = static_cast<int>(threadIdx.x);
  __shared__ float tile[64];
  if (kind == 0 && thread < 40) __syncthreads();  // some threads end
  if (kind == 1) {                                // others wait elsewhere
    if (thread < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
  if (kind == 2 && thread % 2 == 0) out[thread] = __shfl_sync(kAll, 1.0f, 0);
  if (kind == 3) out[thread] = __shfl_sync(thread % 32 < 16 ? 0xffffu : 0xffff0000u, 1.0f, 20);
  if (kind == 4) {
    if (thread % 32 < 16) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }
  if (kind == 5) __pipeline_memcpy_async(tile + thread, out + thread, 4);
  if (kind == 6) __pipeline_memcpy_async(tile + thread + 1, out, 16);
  if (kind == 7) __trap();
}

void wrong(int kind) {
  std::vector<float> out(64);
  wrong_kernel<<<1, 64>>>(kind, out.data());
}

int main(int count, char** arguments) {
  const std::string scene = count > 1 ? arguments[1] : "";
  if (scene == "places") places();
  if (scene == "barriers") barriers();
  if (scene == "lanes") lanes();
  if (scene == "products") products();
  if (scene == "copies") copies();
  if (scene == "limits") limits();
  if (scene == "wrong") wrong(std::atoi(arguments[2]));
  return 0;
}
