// What tensor cores compute, from what the lanes of a warp hold: products of small matrices.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace emulated {
namespace {

struct Operands {
  uint32_t a[4], b[2];
};

float of_tf32(uint32_t bits) {
  bits &= 0xffffe000u;  // the hardware reads no more
  return __uint_as_float(bits);
}
float of_bf16(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
float of_fp16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

// A sum as the hardware stores it: what does not fit is cut off, not rounded.
float cut(double total) {
  const float nearest = static_cast<float>(total);
  const bool beyond = std::fabs(static_cast<double>(nearest)) > std::fabs(total);
  return beyond ? __uint_as_float(__float_as_uint(nearest) - 1) : nearest;  // one step towards zero
}

// One of the six words that a lane shows: four of the left operand, two of the right.
uint32_t word(const Shown* all, int lane, int index) {
  uint32_t value;
  std::memcpy(&value, all[lane].bytes + 4 * index, 4);
  return value;
}
constexpr int kRight = 4;

// A lane's four sums of the 16 x 8, each over k = 8 or 16: products are exact, and added in double precision.
// value_a(all, group, half, k) is that of row group + 8 * half, value_b(all, k, column) that of a column.
template <int kDepth, typename A, typename B>
void multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4], A value_a, B value_b) {
  Operands mine;
  std::memcpy(mine.a, a, sizeof(a));
  std::memcpy(mine.b, b, sizeof(b));
  const Shown* const all = exchange({"a product on tensor cores", 0}, ~0u, shown(mine));
  const int group = static_cast<int>(lane()) / 4, of = static_cast<int>(lane()) % 4;
  double total[4] = {sum[0], sum[1], sum[2], sum[3]};
  for (int k = 0; k < kDepth; ++k) {
    const double upper = value_a(all, group, 0, k), lower = value_a(all, group, 1, k);
    const double left = value_b(all, k, 2 * of), right = value_b(all, k, 2 * of + 1);
    total[0] += upper * left;
    total[1] += upper * right;
    total[2] += lower * left;
    total[3] += lower * right;
  }
  for (int i = 0; i < 4; ++i) sum[i] = cut(total[i]);
}

template <typename Of>
void multiply_halves(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4], Of of) {
  const auto half = [of](uint32_t pair, int k) { return of(static_cast<uint16_t>(pair >> k % 2 * 16)); };
  multiply<16>(
      a, b, sum,
      [=](const Shown* all, int group, int lower, int k) {
        return half(word(all, group * 4 + k % 8 / 2, lower + k / 8 * 2), k);
      },
      [=](const Shown* all, int k, int column) {
        return half(word(all, column * 4 + k % 8 / 2, kRight + k / 8), k);
      });
}

}  // namespace

uint32_t to_tf32(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;  // infinity or NaN
  return (bits + 0x1000u) & 0xffffe000u;                 // halves away from zero
}

void multiply_tf32(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
  multiply<8>(
      a, b, sum,
      [](const Shown* all, int group, int lower, int k) {
        return of_tf32(word(all, group * 4 + k % 4, lower + k / 4 * 2));
      },
      [](const Shown* all, int k, int column) {
        return of_tf32(word(all, column * 4 + k % 4, kRight + k / 4));
      });
}

void multiply_bf16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
  multiply_halves(a, b, sum, of_bf16);
}

void multiply_fp16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
  multiply_halves(a, b, sum, of_fp16);
}

}  // namespace emulated
