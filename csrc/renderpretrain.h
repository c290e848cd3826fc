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
#define RP_INT32 4

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

// Where a 3D kernel goes: output (z, y, x) reads the inputs (z, y, x) * stride - padding + cell.
#define RP_MAX_KERNEL_ROWS 64  // kernel_z * kernel_y
typedef struct rp_window {
  int64_t batch, in_z, in_y, in_x, out_z, out_y, out_x, kernel_z, kernel_y, kernel_x;
  int64_t stride_z, stride_y, stride_x, padding_z, padding_y, padding_x;
} rp_window;

// What a kernel connects, for occupied voxels coords (num, 4) sorted by (b, z, y, x), of which row (b, z, y)
// of the volume has those from rows[row] to rows[row + 1]:
//   count_outputs: how many outputs of each row have an occupied input, (batch * out_z * out_y)
//   list_outputs:  which, out_coords (num_out, 4); out_rows is the running sum of the counts
//   pairs:         of inputs (cells, num_out), the input under each cell, and of its converse outputs (cells,
//                  num_in) or, if that is null, inputs with the cells mirrored, what exists; the rest is left
// first and last (num) are the outputs along x, within the volume, that read an input. type is RP_INT32.
RP_API int rp_sparse_count_outputs_cpu(int64_t type, const int32_t* coords, const int64_t* rows,
                                       const int32_t* first, const int32_t* last, const rp_window* window,
                                       int64_t* counts, int64_t num_threads);
RP_API int rp_sparse_count_outputs_cuda(int64_t type, const int32_t* coords, const int64_t* rows,
                                        const int32_t* first, const int32_t* last, const rp_window* window,
                                        int64_t* counts, void* stream);
RP_API int rp_sparse_list_outputs_cpu(int64_t type, const int32_t* coords, const int64_t* rows,
                                      const int32_t* first, const int32_t* last, const rp_window* window,
                                      const int64_t* out_rows, int32_t* out_coords, int64_t num_threads);
RP_API int rp_sparse_list_outputs_cuda(int64_t type, const int32_t* coords, const int64_t* rows,
                                       const int32_t* first, const int32_t* last, const rp_window* window,
                                       const int64_t* out_rows, int32_t* out_coords, void* stream);
RP_API int rp_sparse_pairs_cpu(int64_t type, const int32_t* coords, const int64_t* rows,
                               const int32_t* out_coords, const int64_t* out_rows, const rp_window* window,
                               int64_t num_in, int64_t num_out, int32_t* inputs, int32_t* outputs,
                               int64_t num_threads);
RP_API int rp_sparse_pairs_cuda(int64_t type, const int32_t* coords, const int64_t* rows,
                                const int32_t* out_coords, const int64_t* out_rows, const rp_window* window,
                                int64_t num_in, int64_t num_out, int32_t* inputs, int32_t* outputs,
                                void* stream);

// sparse_conv3d: out[n] = sum_k features[inputs[k, n]] @ kernel[k], for features (num_in, in_channels),
// kernel (num_cells, in_channels, out_channels), out (num_out, out_channels), and inputs (num_cells,
// num_out), where what is no row of features is none. panels is scratch for the kernel with out_channels
// rounded up to 32, null on CUDA.
// backward_kernel: grad_kernel[k] = sum_n features[inputs[k, n]]^T grad[n]; partial is scratch for num_slabs
// kernels, which are added up at the end.
RP_API int rp_sparse_conv3d_cpu(int64_t type, const void* features, const void* kernel, const int32_t* inputs,
                                int64_t num_in, int64_t num_out, int64_t num_cells, int64_t in_channels,
                                int64_t out_channels, void* panels, void* out, int64_t num_threads);
RP_API int rp_sparse_conv3d_cuda(int64_t type, const void* features, const void* kernel,
                                 const int32_t* inputs, int64_t num_in, int64_t num_out, int64_t num_cells,
                                 int64_t in_channels, int64_t out_channels, void* panels, void* out,
                                 void* stream);
RP_API int rp_sparse_conv3d_backward_kernel_cpu(int64_t type, const void* grad, const void* features,
                                                const int32_t* inputs, int64_t num_in, int64_t num_out,
                                                int64_t num_cells, int64_t in_channels, int64_t out_channels,
                                                int64_t num_slabs, void* partial, void* grad_kernel,
                                                int64_t num_threads);
RP_API int rp_sparse_conv3d_backward_kernel_cuda(int64_t type, const void* grad, const void* features,
                                                 const int32_t* inputs, int64_t num_in, int64_t num_out,
                                                 int64_t num_cells, int64_t in_channels, int64_t out_channels,
                                                 int64_t num_slabs, void* partial, void* grad_kernel,
                                                 void* stream);

#ifdef __cplusplus
}
#endif
