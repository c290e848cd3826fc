// The native API, on one page: plain C functions over pointers and sizes that know nothing of torch.
//
// Every function returns RP_OK or an error code that rp_error_text puts in words. `type` is RP_FLOAT32 or
// RP_FLOAT64 and says what the void pointers point to, `stored_type`, where a function has one, what one of
// them points to instead; arrays are dense, the last axis fastest. Nothing is allocated here. Functions in
// _cpu run on up to `num_threads` threads, and their result does not depend on how many. Functions in _cuda
// queue their work on `stream` (a cudaStream_t) of the current device and return.
//
// Files are named after their operators: NAME.h is the arithmetic both devices share, NAME_cpu.cpp and
// NAME_cuda.cu walk it, NAME_cpu.h and NAME_cuda.h are what one device shares among operators. common/ holds
// what belongs to none.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// Raise it whenever a signature or the meaning of an argument changes; renderpretrain/ops/_native.py expects
// the same.
#define RP_ABI_VERSION 6

#define RP_FLOAT32 0
#define RP_FLOAT64 1
#define RP_FLOAT16 2
#define RP_BFLOAT16 3
#define RP_INT64 4  // the last two for functions of integers alone
#define RP_INT32 5

#define RP_OK 0
#define RP_BAD_TYPE (-1)  // positive codes are cudaError_t
#define RP_TOO_LARGE (-2)
#define RP_OUT_OF_RANGE (-3)

// Activations.
#define RP_SOFTPLUS 0
#define RP_RELU 1
#define RP_SILU 2

#define RP_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// In both libraries. rp_unusable says why the library cannot run here, e.g. an old driver, and is null where
// it can.
RP_API int rp_abi_version(void);
RP_API const char* rp_error_text(int code);
RP_API const char* rp_unusable(void);

// Whether the library has code that a card of this compute capability runs, 9 and 0 for an H100. Asks no
// device: looking at one would start the driver, and CUDA cannot be used in a process forked after that.
RP_API bool rp_has_code_cuda(int major, int minor);

// Asks the system to back fresh memory with huge pages: the first touch of each small page costs more than
// most kernels spend on its content. Of no effect where the system has none.
RP_API void rp_prefer_huge_pages_cpu(void* data, int64_t num_bytes);

// Whether integers, int32 or int64, may be followed by the functions below: RP_OUT_OF_RANGE if not.
//   check_rows:      every number lies in [low, high)
//   check_rising:    low <= numbers[0] <= numbers[1] <= ... <= high, of at least one number
//   check_each_once: int32 numbers are 0, ..., count - 1 in any order; seen (count) is scratch
RP_API int rp_check_rows_cpu(int64_t type, const void* numbers, int64_t count, int64_t low, int64_t high,
                             int64_t num_threads);
RP_API int rp_check_rising_cpu(int64_t type, const void* numbers, int64_t count, int64_t low, int64_t high,
                               int64_t num_threads);
RP_API int rp_check_each_once_cpu(int64_t type, const int32_t* numbers, int64_t count, bool* seen,
                                  int64_t num_threads);

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
// CUDA; inv_s_parts is scratch for RP_NUM_GROUPS(rays) numbers on the CPU, RP_NUM_PARTS(samples of all rays)
// on CUDA.
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
                                       const rp_rays* rays, void* scratch, void* grad_sdf, void* grad_cosines,
                                       void* grad_deltas, double* inv_s_parts, void* grad_inv_s,
                                       void* grad_values, int64_t num_threads);
RP_API int rp_neus_render_backward_cuda(
    int64_t type, const void* sdf, const void* cosines, const void* deltas, const void* inv_s,
    const void* values, const void* t, const bool* valid, const void* depth, const void* opacity,
    const void* weights, const void* grad_out, const void* grad_depth, const void* grad_opacity,
    const void* grad_weights, const rp_rays* rays, void* scratch, void* grad_sdf, void* grad_cosines,
    void* grad_deltas, double* inv_s_parts, void* grad_inv_s, void* grad_values, void* stream);

// A volume (batch, size_z, size_y, size_x, channels) and points (batch, num_points, 3), in metres, whose
// continuous voxel index is point * scale + offset, an integer at a voxel's centre.
typedef struct rp_grid {
  int64_t batch, channels, size_z, size_y, size_x, num_points;
  double scale_x, scale_y, scale_z, offset_x, offset_y, offset_z;
} rp_grid;

// grid_sample: values (B, P, C) = sum_k w_k volume_k, with w_k the trilinear weights of the eight voxels
// around a point. The volume is of stored_type.
RP_API int rp_grid_sample_cpu(int64_t type, const void* points, int64_t stored_type, const void* volume,
                              const rp_grid* grid, void* values, int64_t num_threads);
RP_API int rp_grid_sample_cuda(int64_t type, const void* points, int64_t stored_type, const void* volume,
                               const rp_grid* grid, void* values, void* stream);

// The gradients of sum_k w_k <grad_values, volume_k>, each unless it is null:
//   values (B, P, C) = sum_k w_k volume_k
//   grad_volume_k   += w_k grad_values
//   slopes (B, P, 3) = sum_k dw_k/dpoint <grad_values, volume_k>
// With directions (B, P, 3), not null, every w_k becomes its derivative along them: the second backward pass.
// Without values and slopes the volume may be null.
RP_API int rp_grid_sample_backward_cpu(int64_t type, const void* points, const void* directions,
                                       const void* grad_values, int64_t stored_type, const void* volume,
                                       const rp_grid* grid, void* values, void* grad_volume, void* slopes,
                                       int64_t num_threads);
RP_API int rp_grid_sample_backward_cuda(int64_t type, const void* points, const void* directions,
                                        const void* grad_values, int64_t stored_type, const void* volume,
                                        const rp_grid* grid, void* values, void* grad_volume, void* slopes,
                                        void* stream);

// A small network whose input is added before every one of its blocks + 1 layers (fields/decoder.py): the
// width of the position that it sees (0 for none), its other widths, and the softplus' beta. Its parameters
// lie one behind the other as injected_mlp.h says.
typedef struct rp_mlp {
  int64_t position, in, hidden, out, blocks, activation;
  double beta;
} rp_mlp;

// A network from what a field knows at a point, in this order: the direction of its ray if `directions`,
// features, gradient, geometry. `sigmoid` is what becomes of its output.
typedef struct rp_head {
  rp_mlp mlp;
  int64_t directions, sigmoid;
} rp_head;

// A field of signed distances decoded from a volume. The distance network reads the first distance_channels
// of the volume; features are the channels from first_feature on. Networks see positions / extent and give
// distances / extent. Point i lies on ray i / num_samples, whose direction has direction_channels numbers.
#define RP_MOST_HEADS 2
typedef struct rp_field {
  rp_grid grid;
  double extent;
  int64_t distance_channels, first_feature, num_samples, direction_channels, num_heads;
  rp_mlp distance;
  rp_head heads[RP_MOST_HEADS];
} rp_field;

// sdf_field: at points (batch, num_points, 3) of a volume as for grid_sample, each unless it is null:
//   sdf (batch, num_points) in metres, its gradients (batch, num_points, 3), geometry (batch, num_points,
//   distance.out - 1), features (batch, num_points, channels - first_feature), and what the heads say.
// Where valid (batch, num_points), if not null, is false, nothing is computed and everything is 0. parameters
// are those of the distance network and of every head. `scratch` has num_scratch numbers: RP_TOO_LARGE if
// these are too few; rp_sdf_field_scratch, whose num_scratch is in the host's memory, says how many it takes.
// Backward: gradients of these results, each of which may be null, to grad_volume, which is added to,
// grad_points, and grad_directions (batch, num_points, direction_channels), each of which may be null, and to
// grad_parameters. Where points do not count, nothing is written.
RP_API int rp_sdf_field_scratch_cpu(int64_t type, void* num_scratch, const rp_field* field, int64_t backward,
                                    int64_t num_threads);
RP_API int rp_sdf_field_scratch_cuda(int64_t type, void* num_scratch, const rp_field* field, int64_t backward,
                                     void* stream);
RP_API int rp_sdf_field_cpu(int64_t type, const void* points, const bool* valid, const void* volume,
                            const void* parameters, const void* directions, const rp_field* field,
                            void* scratch, int64_t num_scratch, void* sdf, void* gradients, void* geometry,
                            void* features, void* head_0, void* head_1, int64_t num_threads);
RP_API int rp_sdf_field_cuda(int64_t type, const void* points, const bool* valid, const void* volume,
                             const void* parameters, const void* directions, const rp_field* field,
                             void* scratch, int64_t num_scratch, void* sdf, void* gradients, void* geometry,
                             void* features, void* head_0, void* head_1, void* stream);
RP_API int rp_sdf_field_backward_cpu(int64_t type, const void* points, const bool* valid, const void* volume,
                                     const void* parameters, const void* directions, const rp_field* field,
                                     void* scratch, int64_t num_scratch, const void* grad_sdf,
                                     const void* grad_gradients, const void* grad_geometry,
                                     const void* grad_features, const void* grad_head_0,
                                     const void* grad_head_1, void* grad_volume, void* grad_points,
                                     void* grad_directions, void* grad_parameters, int64_t num_threads);
RP_API int rp_sdf_field_backward_cuda(int64_t type, const void* points, const bool* valid, const void* volume,
                                      const void* parameters, const void* directions, const rp_field* field,
                                      void* scratch, int64_t num_scratch, const void* grad_sdf,
                                      const void* grad_gradients, const void* grad_geometry,
                                      const void* grad_features, const void* grad_head_0,
                                      const void* grad_head_1, void* grad_volume, void* grad_points,
                                      void* grad_directions, void* grad_parameters, void* stream);

// What a network reads at num_points points: arrays input_i (num_points / samples[i], channels[i]), one row
// for each run of samples[i] points, whose channels lie one behind the other in its input. `sigmoid` is what
// becomes of its output.
#define RP_MOST_INPUTS 4
typedef struct rp_mlp_inputs {
  int64_t num_points, num_inputs, sigmoid;
  int64_t channels[RP_MOST_INPUTS], samples[RP_MOST_INPUTS];
  rp_mlp mlp;
} rp_mlp_inputs;

// fused_mlp: out (num_points, mlp.out) from positions (num_points, mlp.position), null where the network sees
// none, and the inputs. Where valid (num_points), if not null, is false, nothing is computed and it is 0.
// `scratch` as for sdf_field.
// Backward: grad_positions (num_points, mlp.position) and grad_input_i (num_points, channels[i]), each of
// which may be null, and grad_parameters. Where points do not count, nothing is written.
RP_API int rp_fused_mlp_scratch_cpu(int64_t type, void* num_scratch, const rp_mlp_inputs* sizes,
                                    int64_t backward, int64_t num_threads);
RP_API int rp_fused_mlp_scratch_cuda(int64_t type, void* num_scratch, const rp_mlp_inputs* sizes,
                                     int64_t backward, void* stream);
RP_API int rp_fused_mlp_cpu(int64_t type, const void* parameters, const void* positions, const bool* valid,
                            const void* input_0, const void* input_1, const void* input_2,
                            const void* input_3, const rp_mlp_inputs* sizes, void* scratch,
                            int64_t num_scratch, void* out, int64_t num_threads);
RP_API int rp_fused_mlp_cuda(int64_t type, const void* parameters, const void* positions, const bool* valid,
                             const void* input_0, const void* input_1, const void* input_2,
                             const void* input_3, const rp_mlp_inputs* sizes, void* scratch,
                             int64_t num_scratch, void* out, void* stream);
RP_API int rp_fused_mlp_backward_cpu(int64_t type, const void* parameters, const void* positions,
                                     const bool* valid, const void* input_0, const void* input_1,
                                     const void* input_2, const void* input_3, const rp_mlp_inputs* sizes,
                                     void* scratch, int64_t num_scratch, const void* grad_out,
                                     void* grad_positions, void* grad_input_0, void* grad_input_1,
                                     void* grad_input_2, void* grad_input_3, void* grad_parameters,
                                     int64_t num_threads);
RP_API int rp_fused_mlp_backward_cuda(int64_t type, const void* parameters, const void* positions,
                                      const bool* valid, const void* input_0, const void* input_1,
                                      const void* input_2, const void* input_3, const rp_mlp_inputs* sizes,
                                      void* scratch, int64_t num_scratch, const void* grad_out,
                                      void* grad_positions, void* grad_input_0, void* grad_input_1,
                                      void* grad_input_2, void* grad_input_3, void* grad_parameters,
                                      void* stream);

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

// Rays of `num_samples` samples each, or, with offsets (rays + 1), packed in arrays of `num_samples` samples,
// those of a ray from offsets[ray] to offsets[ray + 1].
//
// segment_scan: states[i + 1] = factors[i] * states[i] + values[i] along every ray, or back to front. Factors
// that are null count as 1, and a ray starts at 0; values that are null count as 0, and a ray starts at 1.
RP_API int rp_segment_scan_cpu(int64_t type, void* states, const void* factors, const void* values,
                               const int64_t* offsets, int64_t num_rays, int64_t num_samples, int64_t reverse,
                               int64_t num_threads);
RP_API int rp_segment_scan_cuda(int64_t type, void* states, const void* factors, const void* values,
                                const int64_t* offsets, int64_t num_rays, int64_t num_samples,
                                int64_t reverse, void* stream);

// distortion_loss: losses (rays) = sum_ij w_i w_j |middle_i - middle_j| + sum_i w_i^2 length_i / 3. Backward
// multiplies its gradient by grad (rays); by_starts and by_ends may be null.
RP_API int rp_distortion_loss_cpu(int64_t type, const void* weights, const void* t_starts, const void* t_ends,
                                  const int64_t* offsets, int64_t num_rays, int64_t num_samples, void* losses,
                                  int64_t num_threads);
RP_API int rp_distortion_loss_cuda(int64_t type, const void* weights, const void* t_starts,
                                   const void* t_ends, const int64_t* offsets, int64_t num_rays,
                                   int64_t num_samples, void* losses, void* stream);
RP_API int rp_distortion_loss_backward_cpu(int64_t type, const void* grad, const void* weights,
                                           const void* t_starts, const void* t_ends, const int64_t* offsets,
                                           int64_t num_rays, int64_t num_samples, void* by_weights,
                                           void* by_starts, void* by_ends, int64_t num_threads);
RP_API int rp_distortion_loss_backward_cuda(int64_t type, const void* grad, const void* weights,
                                            const void* t_starts, const void* t_ends, const int64_t* offsets,
                                            int64_t num_rays, int64_t num_samples, void* by_weights,
                                            void* by_starts, void* by_ends, void* stream);

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

// Frustums of num_images cameras: num_bins points along the ray of every pixel. Depth probabilities are
// (images, height, width, bins) if bins_last, else (images, bins, height, width); features of `stored_type`
// are (images, height, width, channels).
typedef struct rp_frustum {
  int64_t num_images, num_bins, height, width, channels, num_cells;
  bool bins_last;
} rp_frustum;

// lss_pool: out (cells, channels), where cell order[i] sums depth * feature over the points starts[i], ...,
// starts[i + 1] - 1, which lie at pixels (of all images) and bins; `order` lists every cell, and the images
// of its points ascend. lss_pool_backward: cells (images, height, width, bins) has the cell of every point or
// -1; a gradient that is null is not computed.
RP_API int rp_lss_pool_cpu(int64_t type, const void* depth, int64_t stored_type, const void* features,
                           const int32_t* order, const int32_t* starts, const int32_t* pixels,
                           const int32_t* bins, const rp_frustum* frustum, void* out, int64_t num_threads);
RP_API int rp_lss_pool_cuda(int64_t type, const void* depth, int64_t stored_type, const void* features,
                            const int32_t* order, const int32_t* starts, const int32_t* pixels,
                            const int32_t* bins, const rp_frustum* frustum, void* out, void* stream);
RP_API int rp_lss_pool_backward_cpu(int64_t type, const void* grad, const void* depth, int64_t stored_type,
                                    const void* features, const int32_t* cells, const rp_frustum* frustum,
                                    void* grad_depth, void* grad_features, int64_t num_threads);
RP_API int rp_lss_pool_backward_cuda(int64_t type, const void* grad, const void* depth, int64_t stored_type,
                                     const void* features, const int32_t* cells, const rp_frustum* frustum,
                                     void* grad_depth, void* grad_features, void* stream);

// voxel_index: index[b, p] = ((b * size_z + z) * size_y + y) * size_x + x, the voxel of points (B, P, 3) by
// rounding down, for valid points that lie in the box, lower faces included; -1 for others. Of the box only
// its faces are read, of the grid all but the channels.
RP_API int rp_voxel_index_cpu(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                              const rp_box* box, int64_t* index, int64_t num_threads);
RP_API int rp_voxel_index_cuda(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                               const rp_box* box, int64_t* index, void* stream);

// Integers that name rows, here and below, are followed as they are on the CPU, where the caller has checked
// them. On CUDA, where a look would wait for the device, one out of range is left out.
//
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
                                const int32_t* order, const int32_t* offsets, int64_t num_points,
                                int64_t num_cells, int64_t channels, int64_t reduce, int64_t num_threads);
RP_API int rp_voxel_scatter_cuda(int64_t type, void* out, int64_t stored_type, const void* values,
                                 const int32_t* order, const int32_t* offsets, int64_t num_points,
                                 int64_t num_cells, int64_t channels, int64_t reduce, void* stream);
RP_API int rp_voxel_scatter_backward_cpu(int64_t type, const void* grad, int64_t stored_type,
                                         const void* values, const int32_t* order, const int32_t* offsets,
                                         int64_t num_points, int64_t num_cells, int64_t channels,
                                         int64_t reduce, void* grad_values, int64_t num_threads);
RP_API int rp_voxel_scatter_backward_cuda(int64_t type, const void* grad, int64_t stored_type,
                                          const void* values, const int32_t* order, const int32_t* offsets,
                                          int64_t num_points, int64_t num_cells, int64_t channels,
                                          int64_t reduce, void* grad_values, void* stream);

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

// The same on the tensor cores of a CUDA card (from compute capability 8.0), over rows arranged for them:
// masks (num_out) say which cells an output reads, order (num_out) is the outputs sorted by them, and arrange
// gives table (num_cells, num_out), the input under each cell of the outputs in that order or -1, and covers
// (groups, words), for each group of RP_ROW_GROUP of these rows a bit per cell that any of them has, 32 to a
// word. Of these two functions type is RP_INT32.
// mma: features and weights are stored as `type`, RP_FLOAT32, RP_BFLOAT16 or RP_FLOAT16, sums and out are
// float32. The weights of cell k from channel c to column d are weights[k * cell_step + d * column_step + c],
// those of cell num_cells - 1 - k with `mirrored`. With `rounded` float32 is multiplied with 10 bits of
// mantissa (TF32), without as float32 is.
// mma_backward_kernel: grad and features are stored as `type`; partial is scratch for num_slabs times
// RP_PARTS_PER_SLAB kernels.
#define RP_ROW_GROUP 32
#define RP_PARTS_PER_SLAB 2
RP_API int rp_sparse_conv3d_masks_cuda(int64_t type, const int32_t* inputs, int64_t num_in, int64_t num_out,
                                       int64_t num_cells, int64_t* masks, void* stream);
RP_API int rp_sparse_conv3d_arrange_cuda(int64_t type, const int32_t* inputs, const int64_t* order,
                                         int64_t num_in, int64_t num_out, int64_t num_cells, int32_t* table,
                                         uint32_t* covers, void* stream);
RP_API int rp_sparse_conv3d_mma_cuda(int64_t type, const void* features, const void* weights,
                                     const int32_t* table, const int64_t* order, const uint32_t* covers,
                                     int64_t num_in, int64_t num_out, int64_t num_cells, int64_t in_channels,
                                     int64_t out_channels, int64_t cell_step, int64_t column_step,
                                     int64_t mirrored, int64_t rounded, float* out, void* stream);
RP_API int rp_sparse_conv3d_mma_backward_kernel_cuda(int64_t type, const void* grad, const void* features,
                                                     const int32_t* table, const int64_t* order,
                                                     const uint32_t* covers, int64_t num_in, int64_t num_out,
                                                     int64_t num_cells, int64_t in_channels,
                                                     int64_t out_channels, int64_t rounded, int64_t num_slabs,
                                                     float* partial, float* grad_kernel, void* stream);

// frustum_coordinates: matrices (views, 3, 4) map a point (x, y, z, 1) to (u z', v z', z') with z' its depth
// in metres; points are `point_stride` numbers apart from one view to the next, 0 where they share them.
// Gives (u, v, d) with d -1 at near and 1 at far, (views, points, 3), and whether it lies in [-1, 1) x [-1,
// 1) x (-1, 1) with z' > nearest. u and v of a point no deeper than nearest are those of depth 1.
RP_API int rp_frustum_coordinates_cpu(int64_t type, const void* points, int64_t point_stride,
                                      const void* matrices, int64_t num_views, int64_t num_points,
                                      double near, double far, double nearest, void* coordinates, bool* valid,
                                      int64_t num_threads);
RP_API int rp_frustum_coordinates_cuda(int64_t type, const void* points, int64_t point_stride,
                                       const void* matrices, int64_t num_views, int64_t num_points,
                                       double near, double far, double nearest, void* coordinates,
                                       bool* valid, void* stream);

// Maps (batch, views, height, width, channels) stored as feature_type, depth distributions (batch, views) of
// `depths` bins stored as probability_type, whose cells and bins are cell_stride and depth_stride numbers
// apart, and num_points points with coordinates (batch, views, num_points, 3) and valid (batch, views,
// num_points).
typedef struct rp_lift {
  int64_t batch, views, channels, depths, height, width, num_points;
  int64_t feature_type, probability_type, cell_stride, depth_stride, mean;
} rp_lift;

// image_lift: values (batch, num_points, channels) = sum (or mean) over the views that see a point of
// likelihood times feature; probabilities may be null: the likelihood is 1. Backward adds to grad_features
// and grad_probabilities, laid out as what they belong to, in `type`; null where not needed.
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
