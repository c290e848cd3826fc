// What is asked of arrays of integers before a kernel follows them: a number out of range would lead it out
// of its memory.
#include <algorithm>
#include <atomic>
#include <type_traits>

#include "common/parallel.h"
#include "renderpretrain.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 1 << 14;

// RP_OK if holds(begin, end) does for all ranges of [0, count).
template <typename Holds>
int holds_everywhere(int64_t count, int64_t num_threads, const Holds& holds) {
  std::atomic<bool> fits{true};
  parallel_for(count, kGrain, num_threads, [&](int64_t begin, int64_t end) {
    if (!holds(begin, end)) fits.store(false, std::memory_order_relaxed);
  });
  return fits.load() ? RP_OK : RP_OUT_OF_RANGE;
}

template <typename Run>
int with_integers(int64_t type, const void* numbers, const Run& run) {
  if (type == RP_INT32) return run(static_cast<const int32_t*>(numbers));
  if (type == RP_INT64) return run(static_cast<const int64_t*>(numbers));
  return RP_BAD_TYPE;
}

}  // namespace

int rp_check_rows_cpu(int64_t type, const void* numbers, int64_t count, int64_t low, int64_t high,
                      int64_t num_threads) {
  return with_integers(type, numbers, [&](auto rows) {
    return holds_everywhere(count, num_threads, [&](int64_t begin, int64_t end) {
      // What lies below low wraps to a large number, so that one comparison finds both.
      using Unsigned = std::make_unsigned_t<std::decay_t<decltype(rows[0])>>;
      const Unsigned first = static_cast<Unsigned>(low), span = static_cast<Unsigned>(high - low);
      Unsigned outside = 0;
      for (int64_t i = begin; i < end; ++i) outside |= static_cast<Unsigned>(rows[i]) - first >= span;
      return outside == 0;
    });
  });
}

int rp_check_rising_cpu(int64_t type, const void* numbers, int64_t count, int64_t low, int64_t high,
                        int64_t num_threads) {
  return with_integers(type, numbers, [&](auto offsets) -> int {
    if (count == 0 || offsets[0] < low || offsets[count - 1] > high) return RP_OUT_OF_RANGE;
    return holds_everywhere(count - 1, num_threads, [&](int64_t begin, int64_t end) {
      bool rises = true;
      for (int64_t i = begin; i < end; ++i) rises &= offsets[i] <= offsets[i + 1];
      return rises;
    });
  });
}

int rp_check_each_once_cpu(int64_t type, const int32_t* numbers, int64_t count, bool* seen,
                           int64_t num_threads) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  std::fill_n(seen, count, false);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t number = numbers[i];
    if (number < 0 || number >= count || seen[number]) return RP_OUT_OF_RANGE;
    seen[number] = true;
  }
  return RP_OK;
}
