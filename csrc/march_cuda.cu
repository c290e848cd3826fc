// A thread per ray, from voxel to voxel.
#include "common/launch_cuda.h"
#include "march.h"

namespace renderpretrain {

// Calls found(number, marcher, step) for the steps whose voxel is occupied, at most `limit` times; returns
// how often.
template <typename T, typename Found>
__device__ int64_t visit(const MarchedRays<T>& rays, int64_t ray, int64_t limit, Found found) {
  const bool* const grid = rays.grid(ray);
  const Marcher<T> here = rays.marcher(ray);
  int64_t i, end, count = 0;
  here.bounds(&i, &end);
  while (i < end && count < limit) {
    int64_t index[3];
    here.voxel(i, index);
    const int64_t next = here.leave(i, end, index, here.guess_exit(index, end));
    if (grid[here.flat(index)]) {
      for (; i < next && count < limit; ++i, ++count) found(count, here, i);
    }
    i = next;
  }
  return count;
}

template <typename T>
__global__ void march_kernel(MarchedRays<T> rays, int64_t capacity, T* t_starts, T* t_ends, bool* valid,
                             int64_t* counts) {
  const int64_t ray = thread_index();
  if (ray >= rays.num_rays) return;
  T* const starts = t_starts + ray * capacity;
  T* const ends = t_ends + ray * capacity;
  T rest = 0;
  const int64_t count = visit(rays, ray, capacity, [&](int64_t k, const Marcher<T>& here, int64_t i) {
    starts[k] = here.start(i);
    ends[k] = rest = here.start(i + 1);
  });
  for (int64_t k = count; k < capacity; ++k) starts[k] = ends[k] = rest;
  for (int64_t k = 0; k < capacity; ++k) valid[ray * capacity + k] = k < count;
  counts[ray] = count;
}

template <typename T>
__global__ void march_count_kernel(MarchedRays<T> rays, int64_t* counts) {
  const int64_t ray = thread_index();
  if (ray < rays.num_rays) {
    counts[ray] = visit(rays, ray, kMostSteps, [](int64_t, const Marcher<T>&, int64_t) {});
  }
}

template <typename T>
__global__ void march_fill_kernel(MarchedRays<T> rays, const int64_t* offsets, int64_t* ray_indices,
                                  T* t_starts, T* t_ends) {
  const int64_t ray = thread_index();
  if (ray >= rays.num_rays) return;
  const int64_t first = offsets[ray];
  visit(rays, ray, offsets[ray + 1] - first, [&](int64_t k, const Marcher<T>& here, int64_t i) {
    ray_indices[first + k] = ray;
    t_starts[first + k] = here.start(i);
    t_ends[first + k] = here.start(i + 1);
  });
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_march_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                  const void* t_far, const bool* occupied, const rp_grid* grid, double step, int64_t capacity,
                  void* t_starts, void* t_ends, bool* valid, int64_t* counts, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const MarchedRays<T> rays(origins, directions, t_near, t_far, occupied, *grid, step);
    return launch(march_kernel<T>, rays.num_rays, stream, rays, capacity, static_cast<T*>(t_starts),
                  static_cast<T*>(t_ends), valid, counts);
  });
}

int rp_march_count_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                        const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                        int64_t* counts, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const MarchedRays<T> rays(origins, directions, t_near, t_far, occupied, *grid, step);
    return launch(march_count_kernel<T>, rays.num_rays, stream, rays, counts);
  });
}

int rp_march_fill_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                       const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                       const int64_t* offsets, int64_t* ray_indices, void* t_starts, void* t_ends,
                       void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const MarchedRays<T> rays(origins, directions, t_near, t_far, occupied, *grid, step);
    return launch(march_fill_kernel<T>, rays.num_rays, stream, rays, offsets, ray_indices,
                  static_cast<T*>(t_starts), static_cast<T*>(t_ends));
  });
}
