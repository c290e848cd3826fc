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
#define RP_INT64 4  // for the functions of integers alone

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

// voxel_index: index[b, p] = ((b * size_z + z) * size_y + y) * size_x + x, the voxel of points (B, P, 3) by
// rounding down, for valid points that lie in the box, lower faces included; -1 for others. Of the box only
// its faces are read, of the grid all but the channels.
RP_API int rp_voxel_index_cpu(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                              const rp_box* box, int64_t* index, int64_t num_threads);
RP_API int rp_voxel_index_cuda(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                               const rp_box* box, int64_t* index, void* stream);

// sort_cells: the points in the order of their cells, `index`, and within a cell in their own; those of a
// negative cell come behind the others, as if in cell num_cells, and last those past the last cell, as if in
// num_cells + 1. `cells` are the sorted cells, `order` the points. All arrays have `count` entries; the spare
// ones are scratch, and so is `histogram` with RP_SORT_BINS entries for each RP_SORT_BLOCK points begun.
#define RP_SORT_BLOCK 16384
#define RP_SORT_BINS 2048
RP_API int rp_sort_cells_cpu(int64_t type, const int64_t* index, int64_t count, int64_t num_cells,
                             int64_t* cells, int32_t* order, int64_t* spare_cells, int32_t* spare_order,
                             int64_t* histogram, int64_t num_threads);

// cell_offsets: where in sorted `cells` each cell in [0, num_cells] begins, (num_cells + 1).
RP_API int rp_cell_offsets_cpu(int64_t type, const int64_t* cells, int64_t count, int64_t num_cells,
                               int32_t* offsets, int64_t num_threads);

// occupied_cells: of sorted `cells` and their `order` the distinct ones, `occupied`, of which there are
// *num_occupied <= count, where in `cells` each begins, `offsets` (one more, the end), and the row of each
// point's cell in `occupied`, -1 for a point without one. `scratch` has an entry for each RP_SORT_BLOCK
// points begun.
RP_API int rp_occupied_cells_cpu(int64_t type, const int64_t* cells, const int32_t* order, int64_t count,
                                 int64_t num_cells, int64_t* occupied, int32_t* offsets, int64_t* rows,
                                 int64_t* num_occupied, int64_t* scratch, int64_t num_threads);

// voxel_scatter: out (num_cells, channels) = sum, mean or maximum of values (num_points, channels) over the
// points order[offsets[cell]] ... order[offsets[cell + 1] - 1] of each cell, zero where there are none. A
// maximum is NaN where a value is.
// backward: grad_values (num_points, channels) of all points in `order`, zero for those behind the last
// cell's. Its `values` are read for RP_MAX alone, whose gradient goes to the first point that attains it.
#define RP_SUM 0
#define RP_MEAN 1
#define RP_MAX 2
RP_API int rp_voxel_scatter_cpu(int64_t type, void* out, int64_t stored_type, const void* values,
                                const int32_t* order, const int32_t* offsets, int64_t num_cells,
                                int64_t channels, int64_t reduce, int64_t num_threads);
RP_API int rp_voxel_scatter_cuda(int64_t type, void* out, int64_t stored_type, const void* values,
                                 const int32_t* order, const int32_t* offsets, int64_t num_cells,
                                 int64_t channels, int64_t reduce, void* stream);
RP_API int rp_voxel_scatter_backward_cpu(int64_t type, const void* grad, int64_t stored_type,
                                         const void* values, const int32_t* order, const int32_t* offsets,
                                         int64_t num_points, int64_t num_cells, int64_t channels,
                                         int64_t reduce, void* grad_values, int64_t num_threads);
RP_API int rp_voxel_scatter_backward_cuda(int64_t type, const void* grad, int64_t stored_type,
                                          const void* values, const int32_t* order, const int32_t* offsets,
                                          int64_t num_points, int64_t num_cells, int64_t channels,
                                          int64_t reduce, void* grad_values, void* stream);

#ifdef __cplusplus
}
#endif
