#include "march.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 16;  // rays; tens of microseconds of work

typedef int32_t Voxels __attribute__((vector_size(kLanes * sizeof(int32_t))));

// The voxels of up to sixteen steps from i on; the lanes past the last step repeat it.
template <typename T>
RP_HOST_DEVICE void block_voxels(const Marcher<T>& ray, int64_t i, int64_t end, int32_t* flat) {
  Vector<T> step{};
  for (int k = 0; k < kLanes; ++k) step[k] = T(k);
  step = step + T(i);
  const Vector<T> last = fill(T(end - 1));
  const Vector<T> t = ray.middle(Vector<T>(step > last ? last : step));
  Voxels index[3];
  for (int axis = 0; axis < 3; ++axis) index[axis] = __builtin_convertvector(ray.coordinate(t, axis), Voxels);
  const Voxels found =
      (index[2] * int32_t(ray.steps.size[1]) + index[1]) * int32_t(ray.steps.size[0]) + index[0];
  std::memcpy(flat, &found, sizeof(found));
}

// The next step behind i to look at, which lies in an empty voxel. To find where the ray leaves it costs as
// much as to look at some dozen steps.
template <typename T>
RP_HOST_DEVICE int64_t skip(const Marcher<T>& ray, int64_t i, int64_t end) {
  int64_t here[3];
  ray.voxel(i, here);
  const double guess = ray.guess_exit(here, end);
  return guess < double(i + 3 * kLanes) ? i + 1 : ray.leave(i, end, here, guess);
}

// Calls found(steps, count) with the next steps whose voxel is occupied, until it returns false.
template <typename T, typename Found>
RP_HOST_DEVICE void visit(const Marcher<T>& ray, const bool* occupied, Found found) {
  int64_t begin, end;
  ray.bounds(&begin, &end);
  for (int64_t i = begin; i < end;) {
    int32_t flat[kLanes];
    block_voxels(ray, i, end, flat);
    int64_t steps[kLanes];
    const int64_t block = std::min<int64_t>(kLanes, end - i);
    int64_t count = 0;
    for (int64_t k = 0; k < block; ++k) {
      steps[count] = i + k;
      count += occupied[flat[k]];
    }
    if (count > 0 && !found(steps, count)) return;
    i = count == 0 && flat[0] == flat[kLanes - 1] ? skip(ray, i + block - 1, end) : i + block;
  }
}

template <typename T>
RP_HOST_DEVICE int64_t count_samples(const MarchedRays<T>& rays, int64_t ray) {
  int64_t total = 0;
  visit(rays.marcher(ray), rays.grid(ray), [&](const int64_t*, int64_t found) {
    total += found;
    return true;
  });
  return total;
}

// The first `capacity` samples of a ray; returns how many there are.
template <typename T>
RP_HOST_DEVICE int64_t fill_samples(const MarchedRays<T>& rays, int64_t ray, int64_t capacity, T* starts,
                                    T* ends) {
  const Marcher<T> here = rays.marcher(ray);
  int64_t total = 0;
  visit(here, rays.grid(ray), [&](const int64_t* found, int64_t count) {
    count = std::min(count, capacity - total);
    for (int64_t k = 0; k < count; ++k) {
      starts[total + k] = here.start(found[k]);
      ends[total + k] = here.start(found[k] + 1);
    }
    total += count;
    return total < capacity;
  });
  return total;
}

}  // namespace

int rp_march_cpu(int64_t type, const void* origins, const void* directions, const void* t_near,
                 const void* t_far, const bool* occupied, const rp_grid* grid, double step, int64_t capacity,
                 void* t_starts, void* t_ends, bool* valid, int64_t* counts, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const MarchedRays<T> rays(origins, directions, t_near, t_far, occupied, *grid, step);
    return parallel_for(rays.num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        T* const starts = static_cast<T*>(t_starts) + ray * capacity;
        T* const ends = static_cast<T*>(t_ends) + ray * capacity;
        const int64_t count = capacity > 0 ? fill_samples(rays, ray, capacity, starts, ends) : 0;
        const T rest = count > 0 ? ends[count - 1] : T(0);
        std::fill(starts + count, starts + capacity, rest);
        std::fill(ends + count, ends + capacity, rest);
        std::fill_n(valid + ray * capacity, count, true);
        std::fill_n(valid + ray * capacity + count, capacity - count, false);
        counts[ray] = count;
      }
    });
  });
}

int rp_march_count_cpu(int64_t type, const void* origins, const void* directions, const void* t_near,
                       const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                       int64_t* counts, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const MarchedRays<T> rays(origins, directions, t_near, t_far, occupied, *grid, step);
    return parallel_for(rays.num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) counts[ray] = count_samples(rays, ray);
    });
  });
}

int rp_march_fill_cpu(int64_t type, const void* origins, const void* directions, const void* t_near,
                      const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                      const int64_t* offsets, int64_t* ray_indices, void* t_starts, void* t_ends,
                      int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const MarchedRays<T> rays(origins, directions, t_near, t_far, occupied, *grid, step);
    return parallel_for(rays.num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t first = offsets[ray], count = offsets[ray + 1] - first;
        if (count == 0) continue;
        fill_samples(rays, ray, count, static_cast<T*>(t_starts) + first, static_cast<T*>(t_ends) + first);
        std::fill_n(ray_indices + first, count, ray);
      }
    });
  });
}
