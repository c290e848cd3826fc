// The native API, on one page: plain C functions over pointers and sizes that know nothing of torch.
//
// Every function returns RP_OK or an error code that rp_error_text puts in words. `type` is RP_FLOAT32 or
// RP_FLOAT64 and says what the void pointers point to, `stored_type`, where a function has one, what one of
// them points to instead; arrays are dense, the last axis fastest. Nothing is allocated here. Functions in _cpu run on up to `num_threads` threads, and their result does not depend on
// how many. Functions in _cuda queue their work on `stream` (a cudaStream_t) of the current device and
// return.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// Raise it whenever a signature or the meaning of an argument changes; renderpretrain/ops/_native.py expects
// the same.
#define RP_ABI_VERSION 2

#define RP_FLOAT32 0
#define RP_FLOAT64 1
#define RP_FLOAT16 2
#define RP_BFLOAT16 3

#define RP_OK 0
#define RP_BAD_TYPE (-1)  // positive codes are cudaError_t

#define RP_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// In both libraries. rp_unusable says why the library cannot run here, e.g. an old driver, and is null where
// it can.
RP_API int rp_abi_version(void);
RP_API const char* rp_error_text(int code);
RP_API const char* rp_unusable(void);

// Asks the system to back fresh memory with huge pages: the first touch of each small page costs more than
// most kernels spend on its content. Of no effect where the system has none.
RP_API void rp_prefer_huge_pages_cpu(void* data, int64_t num_bytes);

// composite: weights[i] = alphas[i] * prod_{j < i} (1 - alphas[j]). All arrays are (rays, samples).
RP_API int rp_composite_cpu(int64_t type, const void* alphas, int64_t num_rays, int64_t num_samples,
                            void* weights, int64_t num_threads);
RP_API int rp_composite_cuda(int64_t type, const void* alphas, int64_t num_rays, int64_t num_samples,
                             void* weights, void* stream);
RP_API int rp_composite_backward_cpu(int64_t type, const void* grad_weights, const void* alphas,
                                     int64_t num_rays, int64_t num_samples, void* grad_alphas,
                                     int64_t num_threads);
RP_API int rp_composite_backward_cuda(int64_t type, const void* grad_weights, const void* alphas,
                                      int64_t num_rays, int64_t num_samples, void* grad_alphas, void* stream);

// A volume (batch, size_z, size_y, size_x, channels) and points (batch, num_points, 3), in metres, whose
// continuous voxel index is point * scale + offset, an integer at a voxel's centre.
typedef struct rp_grid {
  int64_t batch, channels, size_z, size_y, size_x, num_points;
  double scale_x, scale_y, scale_z, offset_x, offset_y, offset_z;
} rp_grid;

// With w_k the trilinear weights of the eight voxels around a point - or, unless directions (B, P, 3) are
// null, their derivatives along these - and values (B, P, C):
//   gather:  values = sum_k w_k volume_k
//   scatter: volume_k += w_k values
//   slope:   slopes = sum_k dw_k/dpoint <values, volume_k>, (B, P, 3)
RP_API int rp_grid_gather_cpu(int64_t type, const void* volume, const void* points, const void* directions,
                              const rp_grid* grid, void* values, int64_t num_threads);
RP_API int rp_grid_gather_cuda(int64_t type, const void* volume, const void* points, const void* directions,
                               const rp_grid* grid, void* values, void* stream);
RP_API int rp_grid_scatter_cpu(int64_t type, const void* values, const void* points, const void* directions,
                               const rp_grid* grid, void* volume, int64_t num_threads);
RP_API int rp_grid_scatter_cuda(int64_t type, const void* values, const void* points, const void* directions,
                                const rp_grid* grid, void* volume, void* stream);
RP_API int rp_grid_slope_cpu(int64_t type, const void* values, const void* volume, const void* points,
                             const void* directions, const rp_grid* grid, void* slopes, int64_t num_threads);
RP_API int rp_grid_slope_cuda(int64_t type, const void* values, const void* volume, const void* points,
                              const void* directions, const rp_grid* grid, void* slopes, void* stream);

// The part of a ray that counts: within the box and between near and far.
typedef struct rp_box {
  double lower_x, lower_y, lower_z, upper_x, upper_y, upper_z, near, far;
} rp_box;

// box_intersect: origins and directions (rays, 3); t_near, t_far and hit (rays). A miss has t_near = t_far =
// near.
RP_API int rp_box_intersect_cpu(int64_t type, const void* origins, const void* directions, int64_t num_rays,
                                const rp_box* box, void* t_near, void* t_far, bool* hit, int64_t num_threads);
RP_API int rp_box_intersect_cuda(int64_t type, const void* origins, const void* directions, int64_t num_rays,
                                 const rp_box* box, void* t_near, void* t_far, bool* hit, void* stream);

// resample: edges (rays, bins + 1), weights (rays, bins), u and positions (rays, count); cdf (rays, bins) is
// scratch.
RP_API int rp_resample_cpu(int64_t type, const void* edges, const void* weights, const void* u,
                           int64_t num_rays, int64_t num_bins, int64_t count, double* cdf, void* positions,
                           int64_t num_threads);
RP_API int rp_resample_cuda(int64_t type, const void* edges, const void* weights, const void* u,
                            int64_t num_rays, int64_t num_bins, int64_t count, double* cdf, void* positions,
                            void* stream);

// neus_upsample: positions and sdf (rays, num_positions), at least two; u (count), sorted, or with u_stride
// = count, not zero, (rays, count). out (rays, num_positions + count) holds the positions and the quantiles
// u of NeuS's section weights in order; mass (rays, num_positions - 1) is scratch.
RP_API int rp_neus_upsample_cpu(int64_t type, const void* positions, const void* sdf, const void* u,
                                int64_t num_rays, int64_t num_positions, int64_t count, int64_t u_stride,
                                double inv_s, double* mass, void* out, int64_t num_threads);
RP_API int rp_neus_upsample_cuda(int64_t type, const void* positions, const void* sdf, const void* u,
                                 int64_t num_rays, int64_t num_positions, int64_t count, int64_t u_stride,
                                 double inv_s, double* mass, void* out, void* stream);

// march: rays (batch * num_points) with origins and directions (rays, 3), t_near and t_far (rays), and
// occupied (batch, size_z, size_y, size_x), fewer than 2^31 a grid. The samples of a ray are its steps of
// constant length from t_near on whose middle lies in an occupied voxel. At most `capacity` to a row of
// t_starts, t_ends and valid (rays, capacity), or in one list, ray r from offsets[r] to offsets[r + 1], once
// they are counted.
RP_API int rp_march_cpu(int64_t type, const void* origins, const void* directions, const void* t_near,
                        const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                        int64_t capacity, void* t_starts, void* t_ends, bool* valid, int64_t* counts,
                        int64_t num_threads);
RP_API int rp_march_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                         const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                         int64_t capacity, void* t_starts, void* t_ends, bool* valid, int64_t* counts,
                         void* stream);
RP_API int rp_march_count_cpu(int64_t type, const void* origins, const void* directions, const void* t_near,
                              const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                              int64_t* counts, int64_t num_threads);
RP_API int rp_march_count_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                               const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                               int64_t* counts, void* stream);
RP_API int rp_march_fill_cpu(int64_t type, const void* origins, const void* directions, const void* t_near,
                             const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                             const int64_t* offsets, int64_t* ray_indices, void* t_starts, void* t_ends,
                             int64_t num_threads);
RP_API int rp_march_fill_cuda(int64_t type, const void* origins, const void* directions, const void* t_near,
                              const void* t_far, const bool* occupied, const rp_grid* grid, double step,
                              const int64_t* offsets, int64_t* ray_indices, void* t_starts, void* t_ends,
                              void* stream);

// raycast_grid: beams (batch * num_points) with origins and ends (beams, 3) and valid (beams). Adds to passed
// and hits (batch, size_z, size_y, size_x), zeros before, the numbers of beams that pass and that end in a
// voxel.
RP_API int rp_raycast_grid_cpu(int64_t type, const void* origins, const void* ends, const bool* valid,
                               const rp_grid* grid, int32_t* passed, int32_t* hits, int64_t num_threads);
RP_API int rp_raycast_grid_cuda(int64_t type, const void* origins, const void* ends, const bool* valid,
                                const rp_grid* grid, int32_t* passed, int32_t* hits, void* stream);

#ifdef __cplusplus
}
#endif
