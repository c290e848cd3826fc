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

// composite: weights[i] = alphas[i] * prod_{j < i} (1 - alphas[j]). All arrays are (rays, samples); valid may
// be null, then all samples count. scratch is RP_RAY_SCRATCH numbers on the CPU, null on CUDA.
#define RP_RAY_GROUP 16
#define RP_NUM_GROUPS(count) (((count) + RP_RAY_GROUP - 1) / RP_RAY_GROUP)
#define RP_RAY_SCRATCH(rays, samples) (RP_RAY_GROUP * RP_NUM_GROUPS(rays) * RP_NUM_GROUPS(samples))
RP_API int rp_composite_cpu(int64_t type, const void* alphas, const bool* valid, int64_t num_rays,
                            int64_t num_samples, void* weights, int64_t num_threads);
RP_API int rp_composite_cuda(int64_t type, const void* alphas, const bool* valid, int64_t num_rays,
                             int64_t num_samples, void* weights, void* stream);
RP_API int rp_composite_backward_cpu(int64_t type, const void* grad_weights, const void* alphas,
                                     const bool* valid, int64_t num_rays, int64_t num_samples, void* scratch,
                                     void* grad_alphas, int64_t num_threads);
RP_API int rp_composite_backward_cuda(int64_t type, const void* grad_weights, const void* alphas,
                                      const bool* valid, int64_t num_rays, int64_t num_samples, void* scratch,
                                      void* grad_alphas, void* stream);

// neus_alphas: opacities of `count` intervals; inv_s is one number. inv_s_parts is scratch,
// RP_NUM_PARTS(count) numbers; grad_inv_s is one.
#define RP_PART 4096
#define RP_NUM_PARTS(count) (((count) + RP_PART - 1) / RP_PART)
RP_API int rp_neus_alphas_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                              const void* inv_s, int64_t count, void* alphas, int64_t num_threads);
RP_API int rp_neus_alphas_cuda(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                               const void* inv_s, int64_t count, void* alphas, void* stream);
RP_API int rp_neus_alphas_backward_cpu(int64_t type, const void* grad_alphas, const void* sdf,
                                       const void* cosines, const void* deltas, const void* inv_s,
                                       int64_t count, void* grad_sdf, void* grad_cosines, void* grad_deltas,
                                       double* inv_s_parts, void* grad_inv_s, int64_t num_threads);
RP_API int rp_neus_alphas_backward_cuda(int64_t type, const void* grad_alphas, const void* sdf,
                                        const void* cosines, const void* deltas, const void* inv_s,
                                        int64_t count, void* grad_sdf, void* grad_cosines, void* grad_deltas,
                                        double* inv_s_parts, void* grad_inv_s, void* stream);

// Rays of equally many samples and the values on them, (rays, samples, channels), stored as stored_type. A
// ray ends where its transmittance falls below early_stop.
typedef struct rp_rays {
  int64_t num_rays, num_samples, channels, stored_type;
  double early_stop;
} rp_rays;

// accumulate: out = sum of weights * values along each ray, (rays, channels). On the way back either result
// may be null.
RP_API int rp_accumulate_cpu(int64_t type, const void* weights, const void* values, const rp_rays* rays,
                             void* out, int64_t num_threads);
RP_API int rp_accumulate_cuda(int64_t type, const void* weights, const void* values, const rp_rays* rays,
                              void* out, void* stream);
RP_API int rp_accumulate_backward_cpu(int64_t type, const void* grad_out, const void* weights,
                                      const void* values, const rp_rays* rays, void* grad_weights,
                                      void* grad_values, int64_t num_threads);
RP_API int rp_accumulate_backward_cuda(int64_t type, const void* grad_out, const void* weights,
                                       const void* values, const rp_rays* rays, void* grad_weights,
                                       void* grad_values, void* stream);

// composite_values: composite and accumulate in one, with the expected t and the sum of the weights per ray.
// The gradients of the four outputs may each be null, as may valid and grad_values. scratch is RP_RAY_SCRATCH
// numbers on the CPU, and as large as alphas on CUDA.
RP_API int rp_composite_values_cpu(int64_t type, const void* alphas, const void* values, const void* t,
                                   const bool* valid, const rp_rays* rays, void* out, void* depth,
                                   void* opacity, void* weights, int64_t num_threads);
RP_API int rp_composite_values_cuda(int64_t type, const void* alphas, const void* values, const void* t,
                                    const bool* valid, const rp_rays* rays, void* out, void* depth,
                                    void* opacity, void* weights, void* stream);
RP_API int rp_composite_values_backward_cpu(int64_t type, const void* alphas, const void* values,
                                            const void* t, const bool* valid, const void* depth,
                                            const void* opacity, const void* weights, const void* grad_out,
                                            const void* grad_depth, const void* grad_opacity,
                                            const void* grad_weights, const rp_rays* rays, void* scratch,
                                            void* grad_alphas, void* grad_values, int64_t num_threads);
RP_API int rp_composite_values_backward_cuda(int64_t type, const void* alphas, const void* values,
                                             const void* t, const bool* valid, const void* depth,
                                             const void* opacity, const void* weights, const void* grad_out,
                                             const void* grad_depth, const void* grad_opacity,
                                             const void* grad_weights, const rp_rays* rays, void* scratch,
                                             void* grad_alphas, void* grad_values, void* stream);

// neus_render: neus_alphas and composite_values in one. scratch is RP_RAY_SCRATCH numbers on the CPU, null on
// CUDA; inv_s_parts is scratch for RP_NUM_GROUPS(rays) numbers on the CPU, RP_NUM_PARTS(samples of all rays) on
// CUDA.
RP_API int rp_neus_render_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                              const void* inv_s, const void* values, const void* t, const bool* valid,
                              const rp_rays* rays, void* out, void* depth, void* opacity, void* weights,
                              int64_t num_threads);
RP_API int rp_neus_render_cuda(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                               const void* inv_s, const void* values, const void* t, const bool* valid,
                               const rp_rays* rays, void* out, void* depth, void* opacity, void* weights,
                               void* stream);
RP_API int rp_neus_render_backward_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                                       const void* inv_s, const void* values, const void* t,
                                       const bool* valid, const void* depth, const void* opacity,
                                       const void* weights, const void* grad_out, const void* grad_depth,
                                       const void* grad_opacity, const void* grad_weights,
                                       const rp_rays* rays, void* scratch, void* grad_sdf,
                                       void* grad_cosines, void* grad_deltas, double* inv_s_parts,
                                       void* grad_inv_s, void* grad_values, int64_t num_threads);
RP_API int rp_neus_render_backward_cuda(int64_t type, const void* sdf, const void* cosines,
                                        const void* deltas, const void* inv_s, const void* values,
                                        const void* t, const bool* valid, const void* depth,
                                        const void* opacity, const void* weights, const void* grad_out,
                                        const void* grad_depth, const void* grad_opacity,
                                        const void* grad_weights, const rp_rays* rays, void* scratch,
                                        void* grad_sdf, void* grad_cosines, void* grad_deltas,
                                        double* inv_s_parts, void* grad_inv_s, void* grad_values,
                                        void* stream);

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

#ifdef __cplusplus
}
#endif
