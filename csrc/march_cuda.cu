// A thread per ray, from voxel to voxel.
#include "launch_cuda.h"
#include "march.h"

namespace renderpretrain {

template <typename T>
struct March {
  Steps<T> steps;
  const T *origins, *directions, *t_near, *t_far;
  const bool* occupied;
  int64_t num_rays, rays_per_grid;

  __device__ Marcher<T> marcher(int64_t ray) const {
    return {steps, origins + 3 * ray, directions + 3 * ray, t_near[ray], t_far[ray]};
  }

  // Calls found(step) for the steps whose voxel is occupied, at most `limit` times; returns how often.
  template <typename Found>
  __device__ int64_t visit(int64_t ray, int64_t limit, Found found) const {
    const bool* const grid = occupied + ray / rays_per_grid * (steps.size[0] * steps.size[1] * steps.size[2]);
    const Marcher<T> here = marcher(ray);
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
};

template <typename T>
__global__ void march_kernel(March<T> work, int64_t capacity, T* t_starts, T* t_ends, bool* valid,
                             int64_t* counts) {
  const int64_t ray = thread_index();
  if (ray >= work.num_rays) return;
  T* const starts = t_starts + ray * capacity;
  T* const ends = t_ends + ray * capacity;
  T rest = 0;
  const int64_t count = work.visit(ray, capacity, [&](int64_t k, const Marcher<T>& here, int64_t i) {
    starts[k] = here.start(i);
    ends[k] = rest = here.start(i + 1);
  });
  for (int64_t k = count; k < capacity; ++k) starts[k] = ends[k] = rest;
  for (int64_t k = 0; k < capacity; ++k) valid[ray * capacity + k] = k < count;
  counts[ray] = count;
}

template <typename T>
__global__ void march_count_kernel(March<T> work, int64_t* counts) {
  const int64_t ray = thread_index();
  if (ray < work.num_rays) {
    counts[ray] = work.visit(ray, kMostSteps, [](int64_t, const Marcher<T>&, int64_t) {});
  }
}

template <typename T>
__global__ void march_fill_kernel(March<T> work, const int64_t* offsets, int64_t* ray_indices, T* t_starts,
                                  T* t_ends) {
  const int64_t ray = thread_index();
  if (ray >= work.num_rays) return;
  const int64_t first = offsets[ray];
  work.visit(ray, offsets[ray + 1] - first, [&](int64_t k, const Marcher<T>& here, int64_t i) {
    ray_indices[first + k] = ray;
    t_starts[first + k] = here.start(i);
    t_ends[first + k] = here.start(i + 1);
  });
}

template <typename T>
March<T> march_of(const void* origins, const void* directions, const void* t_near, const void* t_far,
                  const bool* occupied, const rp_grid* grid, double step) {
  return {Steps<T>(*grid, step),
          static_cast<const T*>(origins),
          static_cast<const T*>(directions),
          static_cast<const T*>(t_near),
          static_cast<const T*>(t_far),
          occupied,
          grid->batch * grid->num_points,
          grid->num_points};
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_march_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                  const void* t_far, const bool* occupied, const rp_grid* grid, double step, int64_t capacity,
                  void* t_starts, void* t_ends, bool* valid, int64_t* counts, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto work = march_of<T>(origins, directions, t_near, t_far, occupied, grid, step);
    return launch(march_kernel<T>, work.num_rays, stream, work, capacity, static_cast<T*>(t_starts),
                  static_cast<T*>(t_ends), valid, counts);
  });
}

int rp_march_count_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                        const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                        int64_t* counts, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto work = march_of<T>(origins, directions, t_near, t_far, occupied, grid, step);
    return launch(march_count_kernel<T>, work.num_rays, stream, work, counts);
  });
}

int rp_march_fill_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                       const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                       const int64_t* offsets, int64_t* ray_indices, void* t_starts, void* t_ends,
                       void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto work = march_of<T>(origins, directions, t_near, t_far, occupied, grid, step);
    return launch(march_fill_kernel<T>, work.num_rays, stream, work, offsets, ray_indices,
                  static_cast<T*>(t_starts), static_cast<T*>(t_ends));
  });
}
