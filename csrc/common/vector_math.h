// Functions of sixteen numbers at a time that no instruction has.
#pragma once

#include <cmath>
#include <cstring>

#include "common/vector.h"

namespace renderpretrain {

using std::exp;

// e^x to 1.2e-7 of itself for x in [-87.3, 88.3], and e^-87.3 or e^88.3, nearly the smallest normal and the
// largest number, outside. NaN stays NaN.
RP_HOST_DEVICE Vector<float> exp(Vector<float> x) {
  typedef int32_t Bits __attribute__((vector_size(kLanes * sizeof(int32_t))));
  x = x < -87.3f ? fill(-87.3f) : x;
  x = x > 88.3f ? fill(88.3f) : x;
  // x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds to a whole number, which then lies in the
  // last bits.
  const Vector<float> shift = fill(12582912.0f);
  const Vector<float> shifted = x * 1.44269504f + shift;
  const Vector<float> n = shifted - shift;
  Vector<float> r = fma(-0.693359375f, n, x);
  r = fma(2.12194440e-4f, n, r);
  // Cephes expf: a minimax polynomial of degree 7 without error at 0.
  Vector<float> p = fma<float>(fill(1.9875691500e-4f), r, fill(1.3981999507e-3f));
  p = fma<float>(p, r, fill(8.3334519073e-3f));
  p = fma<float>(p, r, fill(4.1665795894e-2f));
  p = fma<float>(p, r, fill(1.6666665459e-1f));
  p = fma<float>(p, r, fill(5.0000001201e-1f));
  p = fma<float>(p, r * r, r + 1.0f);
  const Bits power = ((Bits)shifted - (Bits)shift + 127) << 23;
  return p * (Vector<float>)power;
}

RP_HOST_DEVICE Vector<double> exp(Vector<double> x) {
  for (int i = 0; i < kLanes; ++i) x[i] = std::exp(x[i]);
  return x;
}

// log(1 + x) for x in [0, 1] to 1.9e-7 of itself: x times a minimax polynomial of degree 8.
RP_HOST_DEVICE Vector<float> log1p(Vector<float> x) {
  constexpr float kFactors[] = {-0.029505258f, 0.07822599f, -0.13663250f, 0.19106010f,
                                -0.24842983f,  0.33319098f, -0.49999493f, 0.99999994f};
  Vector<float> p = fill(0.0052326983f);
  for (const float factor : kFactors) p = fma<float>(p, x, fill(factor));
  return x * p;
}

RP_HOST_DEVICE Vector<double> log1p(Vector<double> x) {
  for (int i = 0; i < kLanes; ++i) x[i] = std::log1p(x[i]);
  return x;
}

}  // namespace renderpretrain
