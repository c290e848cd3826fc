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
#define RP_ABI_VERSION 3

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

// frustum_coordinates: matrices (views, 3, 4) map a point (x, y, z, 1) to (u z', v z', z') with z' its depth in
// metres; points are `point_stride` numbers apart from one view to the next, 0 where they share them. Gives (u, v,
// d) with d -1 at near and 1 at far, (views, points, 3), and whether it lies in [-1, 1) x [-1, 1) x (-1, 1) with z'
// > nearest. u and v of a point no deeper than nearest are those of depth 1.
RP_API int rp_frustum_coordinates_cpu(int64_t type, const void* points, int64_t point_stride,
                                      const void* matrices, int64_t num_views, int64_t num_points, double near,
                                      double far, double nearest, void* coordinates, bool* valid,
                                      int64_t num_threads);
RP_API int rp_frustum_coordinates_cuda(int64_t type, const void* points, int64_t point_stride,
                                       const void* matrices, int64_t num_views, int64_t num_points, double near,
                                       double far, double nearest, void* coordinates, bool* valid, void* stream);

// Maps (batch, views, height, width, channels) stored as feature_type, depth distributions (batch, views) of
// `depths` bins stored as probability_type, whose cells and bins are cell_stride and depth_stride numbers apart,
// and num_points points with coordinates (batch, views, num_points, 3) and valid (batch, views, num_points).
typedef struct rp_lift {
  int64_t batch, views, channels, depths, height, width, num_points;
  int64_t feature_type, probability_type, cell_stride, depth_stride, mean;
} rp_lift;

// image_lift: values (batch, num_points, channels) = sum (or mean) over the views that see a point of likelihood
// times feature; probabilities may be null: the likelihood is 1. Backward adds to grad_features and
// grad_probabilities, laid out as what they belong to, in `type`; null where not needed.
RP_API int rp_image_lift_cpu(int64_t type, const void* coordinates, const bool* valid, const void* features,
                             const void* probabilities, const rp_lift* sizes, void* values,
                             int64_t num_threads);
RP_API int rp_image_lift_cuda(int64_t type, const void* coordinates, const bool* valid, const void* features,
                              const void* probabilities, const rp_lift* sizes, void* values, void* stream);
RP_API int rp_image_lift_backward_cpu(int64_t type, const void* coordinates, const bool* valid,
                                      const void* features, const void* probabilities, const void* grad,
                                      const rp_lift* sizes, void* grad_features, void* grad_probabilities,
                                      int64_t num_threads);
RP_API int rp_image_lift_backward_cuda(int64_t type, const void* coordinates, const bool* valid,
                                       const void* features, const void* probabilities, const void* grad,
                                       const rp_lift* sizes, void* grad_features, void* grad_probabilities,
                                       void* stream);

#ifdef __cplusplus
}
#endif
