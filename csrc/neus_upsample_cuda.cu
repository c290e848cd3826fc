// A thread per section finds its opacity, a thread per ray sums, and a thread per element of the result
// places it.
#include "common/launch_cuda.h"
#include "neus_upsample.h"

namespace renderpretrain {

template <typename T>
__global__ void alpha_kernel(const T* positions, const T* sdf, int64_t num_rays, int64_t num_sections,
                             T inv_s, double* mass) {
  const int64_t i = thread_index();
  if (i >= num_rays * num_sections) return;
  const int64_t section = i % num_sections;
  const T* const t = positions + i + i / num_sections;  // a ray has one position more than sections
  const T* const distance = sdf + i + i / num_sections;
  const T delta = t[1] - t[0];
  const T slope = section_slope<T>(delta, distance[0], distance[1]);
  const T before = section > 0 ? section_slope<T>(t[0] - t[-1], distance[-1], distance[0]) : T(0);
  mass[i] = section_alpha(delta, distance[0], distance[1], slope, before, inv_s);
}

template <typename T>
__global__ void section_kernel(int64_t num_rays, int64_t num_sections, double* mass) {
  const int64_t ray = thread_index();
  if (ray < num_rays) accumulate_sections<T>(num_sections, mass + ray * num_sections);
}

// How many quantiles lie in the sections before position i; the search quantile() makes, from the other side.
template <typename T>
__device__ int64_t quantiles_before(const T* u, int64_t count, const double* mass, int64_t num_sections,
                                    int64_t i) {
  if (i == 0) return 0;
  if (mass[i - 1] >= mass[num_sections - 1]) return count;
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const bool before = target_of(mass, num_sections, u[middle]) < mass[i - 1];
    low = before ? middle + 1 : low;
    high = before ? high : middle;
  }
  return low;
}

template <typename T>
__global__ void merge_kernel(const T* positions, const T* u, const double* mass, int64_t num_rays,
                             int64_t num_positions, int64_t count, int64_t u_stride, T* out) {
  const int64_t index = thread_index(), width = num_positions + count;
  if (index >= num_rays * width) return;
  const int64_t ray = index / width, i = index % width;
  const T* const t = positions + ray * num_positions;
  const T* const quantiles = u + ray * u_stride;
  const double* const sums = mass + ray * (num_positions - 1);
  if (i < num_positions) {
    out[ray * width + i + quantiles_before(quantiles, count, sums, num_positions - 1, i)] = t[i];
  } else {
    int64_t section;
    const int64_t k = i - num_positions;
    const T position = quantile(t, sums, num_positions - 1, quantiles[k], &section);
    out[ray * width + k + section + 1] = position;
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_neus_upsample_cuda(int64_t type, const void* positions, const void* sdf, const void* u,
                          int64_t num_rays, int64_t num_positions, int64_t count, int64_t u_stride,
                          double inv_s, double* mass, void* out, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t num_sections = num_positions - 1;
    const T *t = static_cast<const T*>(positions), *distance = static_cast<const T*>(sdf);
    int code = launch(alpha_kernel<T>, num_rays * num_sections, stream, t, distance, num_rays, num_sections,
                      static_cast<T>(inv_s), mass);
    if (code != RP_OK) return code;
    code = launch(section_kernel<T>, num_rays, stream, num_rays, num_sections, mass);
    if (code != RP_OK) return code;
    return launch(merge_kernel<T>, num_rays * (num_positions + count), stream, t, static_cast<const T*>(u),
                  mass, num_rays, num_positions, count, u_stride, static_cast<T*>(out));
  });
}
