// The NeuS opacity law on CUDA: a thread per interval; the gradient by the sharpness is summed part by part,
// in an order that no scheduling changes.
#pragma once

#include "common/launch_cuda.h"
#include "neus.h"

namespace renderpretrain {

template <typename T>
struct NeusAlphas {
  const T *sdf, *cosines, *deltas, *inv_s;

  __device__ T operator()(int64_t i) const { return neus_alpha<T>(sdf[i], cosines[i], deltas[i], *inv_s); }
};

template <typename T>
__global__ void neus_alphas_kernel(NeusAlphas<T> of, int64_t count, T* alphas) {
  const int64_t i = thread_index();
  if (i < count) alphas[i] = of(i);
}

// The sum of a block's numbers in thread 0, 0 in the others.
__device__ inline double sum_of_block(double value) {
  __shared__ double numbers[kThreads];
  numbers[threadIdx.x] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) numbers[threadIdx.x] += numbers[threadIdx.x + half];
  }
  return threadIdx.x == 0 ? numbers[0] : 0.0;
}

// A block per part. grad may be one of the results.
template <typename T>
__global__ void neus_alphas_backward_kernel(const T* grad, const T* sdf, const T* cosines, const T* deltas,
                                            const T* inv_s, int64_t count, T* grad_sdf, T* grad_cosines,
                                            T* grad_deltas, double* inv_s_parts) {
  double by_inv_s = 0;
  for (int64_t k = threadIdx.x; k < RP_PART; k += kThreads) {
    const int64_t i = blockIdx.x * static_cast<int64_t>(RP_PART) + k;
    if (i >= count) break;
    const NeusGradient<T> found = neus_alpha_backward<T>(grad[i], sdf[i], cosines[i], deltas[i], *inv_s);
    grad_sdf[i] = found.sdf;
    grad_cosines[i] = found.cosines;
    grad_deltas[i] = found.deltas;
    by_inv_s += found.inv_s;
  }
  const double total = sum_of_block(by_inv_s);
  if (threadIdx.x == 0) inv_s_parts[blockIdx.x] = total;
}

template <typename T>
__global__ void sum_parts_kernel(const double* parts, int64_t count, T* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += parts[i];
  sum = sum_of_block(sum);
  if (threadIdx.x == 0) *total = static_cast<T>(sum);
}

template <typename T>
int neus_alphas(const void* sdf, const void* cosines, const void* deltas, const void* inv_s, int64_t count,
                T* alphas, void* stream) {
  const NeusAlphas<T> of{static_cast<const T*>(sdf), static_cast<const T*>(cosines),
                         static_cast<const T*>(deltas), static_cast<const T*>(inv_s)};
  return launch(neus_alphas_kernel<T>, count, stream, of, count, alphas);
}

template <typename T>
int neus_alphas_backward(const T* grad, const void* sdf, const void* cosines, const void* deltas,
                         const void* inv_s, int64_t count, T* grad_sdf, T* grad_cosines, T* grad_deltas,
                         double* inv_s_parts, void* grad_inv_s, void* stream) {
  const int64_t num_parts = RP_NUM_PARTS(count);
  const int code =
      launch(neus_alphas_backward_kernel<T>, num_parts * kThreads, stream, grad, static_cast<const T*>(sdf),
             static_cast<const T*>(cosines), static_cast<const T*>(deltas), static_cast<const T*>(inv_s),
             count, grad_sdf, grad_cosines, grad_deltas, inv_s_parts);
  if (code != RP_OK) return code;
  return launch(sum_parts_kernel<T>, 1, stream, static_cast<const double*>(inv_s_parts), num_parts,
                static_cast<T*>(grad_inv_s));
}

}  // namespace renderpretrain
