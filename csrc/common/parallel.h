// Threads of our own: a second OpenMP beside torch's would oversubscribe the machine.
#pragma once

#include <cstdint>
#include <type_traits>

#include "renderpretrain.h"

namespace renderpretrain {

using RangeFunction = void (*)(void* body, int64_t begin, int64_t end);

// Calls function(body, begin, end) on ranges of about `grain` items that tile [0, count), on up to
// num_threads threads, the caller among them; where threads cannot be had, on the caller alone. Ranges must
// not depend on each other.
void parallel_ranges(int64_t count, int64_t grain, int64_t num_threads, RangeFunction function, void* body);

// The same for a lambda body(begin, end). Returns RP_OK, for the C functions to pass on.
template <typename Body>
int parallel_for(int64_t count, int64_t grain, int64_t num_threads, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  const RangeFunction function = [](void* erased, int64_t begin, int64_t end) {
    (*static_cast<Plain*>(erased))(begin, end);
  };
  parallel_ranges(count, grain, num_threads, function, &body);
  return RP_OK;
}

}  // namespace renderpretrain
