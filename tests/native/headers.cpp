// What the headers of csrc promise, checked without torch: indices beyond 2^31, vectors that stay within
// their memory, and, written to the file named on the command line, every half-precision number as float.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "common/segments.h"
#include "common/vector.h"
#include "grid_sample.h"

using namespace renderpretrain;

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                            \
    }                                                                          \
  } while (false)

// Room for `count` numbers that ends where a page begins that nobody may touch.
template <typename T>
struct Fenced {
  explicit Fenced(size_t count) : page(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    void* const pages =
        mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    base = static_cast<char*>(pages);
    CHECK(base != MAP_FAILED && mprotect(base + page, page, PROT_NONE) == 0);
    data = reinterpret_cast<T*>(base + page) - count;
  }
  ~Fenced() { munmap(base, 2 * page); }

  size_t page;
  char* base;
  T* data;
};

uint64_t bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Voxels are counted in 64 bits, whatever the sizes.
template <typename T>
void check_voxels() {
  const int64_t sizes[][3] = {
      {3, 4, 5}, {1 << 11, 1 << 11, 1 << 11}, {70000, 70000, 3}, {2, 1 << 20, 1 << 20}};
  for (const auto& size : sizes) {
    rp_grid raw{};
    raw.size_x = size[0], raw.size_y = size[1], raw.size_z = size[2];
    raw.scale_x = raw.scale_y = raw.scale_z = 1;
    const Grid<T> grid(raw);
    CHECK(grid.num_voxels() == static_cast<__int128>(size[0]) * size[1] * size[2]);
    Cell<T> cell;
    for (int axis = 0; axis < 3; ++axis) cell.corner[axis] = size[axis] - 2;
    for (int k = 0; k < kCorners; ++k) {
      const __int128 x = size[0] - 2 + (k & 1);
      const __int128 y = size[1] - 2 + (k >> 1 & 1);
      const __int128 z = size[2] - 2 + (k >> 2 & 1);
      CHECK(voxel_of(grid, cell, k) == (z * size[1] + y) * size[0] + x);
    }
    for (int axis = 0; axis < 3; ++axis) cell.corner[axis] = size[axis] - 1;
    CHECK(voxel_of(grid, cell, 0) == grid.num_voxels() - 1);
    for (int k = 1; k < kCorners; ++k) CHECK(voxel_of(grid, cell, k) == -1);
  }
}

// A coordinate that is no voxel index, NaN included, is outside before it is made an integer.
template <typename T>
void check_points_outside() {
  rp_grid raw{};
  raw.size_x = raw.size_y = raw.size_z = 4;
  raw.scale_x = raw.scale_y = raw.scale_z = 1;
  const Grid<T> grid(raw);
  using Limits = std::numeric_limits<T>;
  for (const T far : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), Limits::max(), T(4)}) {
    for (int axis = 0; axis < 3; ++axis) {
      T point[3] = {1, 1, 1};
      Cell<T> cell;
      CHECK(locate(grid, point, &cell));
      point[axis] = far;
      CHECK(!locate(grid, point, &cell));
    }
  }
}

void check_rays() {
  const Segments rows{nullptr, int64_t{3} << 30};
  CHECK(rows.begin(5) == static_cast<__int128>(5) * rows.num_samples);
  CHECK(rows.count(5) == rows.num_samples);
  const int64_t offsets[] = {0, int64_t{1} << 33, int64_t{5} << 33, -7, int64_t{1} << 62};
  const Segments packed{offsets, int64_t{5} << 33};
  CHECK(packed.begin(1) == offsets[1] && packed.count(1) == int64_t{4} << 33);
  // Wrong offsets stay within the array.
  CHECK(packed.begin(3) == 0 && packed.begin(4) == packed.num_samples);
}

// The ranges tile [0, count), beyond 2^31 and with as many threads as one likes.
void check_ranges() {
  const int64_t counts[] = {0, 1, 7, 64, 1000, (int64_t{1} << 34) + 3};
  for (const int64_t count : counts) {
    for (const int64_t num_threads : {1, 2, 5}) {
      const int64_t grain = count / 50 + 3;
      std::mutex mutex;
      std::vector<std::pair<int64_t, int64_t>> ranges;
      CHECK(parallel_for(count, grain, num_threads, [&](int64_t begin, int64_t end) {
              const std::lock_guard<std::mutex> lock(mutex);
              ranges.emplace_back(begin, end);
            }) == RP_OK);
      __int128 total = 0;
      for (const auto& range : ranges) {
        CHECK(0 <= range.first && range.first < range.second && range.second <= count);
        for (const auto& other : ranges) {
          CHECK(&range == &other || range.second <= other.first || other.second <= range.first);
        }
        total += range.second - range.first;
      }
      CHECK(total == count);
    }
  }
}

// Any count at the end of the memory, and what lies in front stays as it was.
template <typename T>
void check_parts() {
  for (int count = 0; count < kLanes; ++count) {
    Fenced<T> source(count), target(kLanes + count);
    for (int i = 0; i < count; ++i) source.data[i] = T(i + 1);
    for (int i = 0; i < kLanes + count; ++i) target.data[i] = T(-1);
    const Vector<T> part = load_some(source.data, count);
    for (int i = 0; i < kLanes; ++i) CHECK(part[i] == (i < count ? T(i + 1) : T(0)));
    Vector<T> full;
    for (int i = 0; i < kLanes; ++i) full[i] = T(i + 1);
    store_some(target.data + kLanes, full, count);
    for (int i = 0; i < kLanes; ++i) CHECK(target.data[i] == T(-1));
    for (int i = 0; i < count; ++i) CHECK(target.data[kLanes + i] == T(i + 1));
    store_some(target.data, full, count);
    for (int i = 0; i < kLanes; ++i) CHECK(target.data[i] == (i < count ? T(i + 1) : T(-1)));
    store(target.data + count, full);  // whole vectors up to the fence, at every address
    const Vector<T> again = load(target.data + count);
    for (int i = 0; i < kLanes; ++i) CHECK(again[i] == T(i + 1));
  }
}

template <typename Half>
void check_half_parts() {
  for (int count = 0; count <= kLanes; ++count) {
    Fenced<Half> source(count);
    for (int i = 0; i < count; ++i) source.data[i].bits = static_cast<uint16_t>(0x3c01 + 37 * i);
    const Vector<float> part = count < kLanes ? load_some(source.data, count) : load(source.data);
    for (int i = 0; i < kLanes; ++i) CHECK(part[i] == (i < count ? to_float(source.data[i]) : 0.0f));
  }
}

template <typename T>
void check_arithmetic() {
  Vector<T> a, b, c;
  T expected = 0;
  for (int i = 0; i < kLanes; ++i) {
    a[i] = T(1) + T(i) * std::numeric_limits<T>::epsilon();
    b[i] = T(1) - T(i) * std::numeric_limits<T>::epsilon();
    c[i] = T(-1);
    expected += T(i * i);
  }
  const Vector<T> found = fma<T>(a, b, c);
#if defined(__FMA__)
  constexpr bool kOneRounding = std::is_same_v<T, float>;
#else
  constexpr bool kOneRounding = false;
#endif
  Vector<T> squares;
  for (int i = 0; i < kLanes; ++i) {
    const T product = a[i] * b[i];
    CHECK(bits_of(found[i]) == bits_of(kOneRounding ? std::fma(a[i], b[i], c[i]) : product + c[i]));
    CHECK(fill(T(0.1))[i] == T(0.1));
    squares[i] = T((kLanes - 1 - i) * (kLanes - 1 - i));
  }
  CHECK(sum<T>(squares) == expected);
}

template <typename Half>
void write_all(std::ofstream& file) {
  std::vector<Half> halves(1 << 16);
  std::vector<float> one_by_one(halves.size()), together(halves.size());
  for (size_t i = 0; i < halves.size(); ++i) {
    halves[i].bits = static_cast<uint16_t>(i);
    one_by_one[i] = to_float(halves[i]);
  }
  for (size_t i = 0; i < halves.size(); i += kLanes) store(together.data() + i, load(halves.data() + i));
  for (const auto* floats : {&one_by_one, &together}) {
    file.write(reinterpret_cast<const char*>(floats->data()), 4 * static_cast<int64_t>(floats->size()));
  }
}

int main(int, char** arguments) {
  check_voxels<float>();
  check_voxels<double>();
  check_points_outside<float>();
  check_points_outside<double>();
  check_rays();
  check_ranges();
  check_parts<float>();
  check_parts<double>();
  check_half_parts<BFloat16>();
  check_half_parts<Float16>();
  check_arithmetic<float>();
  check_arithmetic<double>();
  std::ofstream file(arguments[1], std::ios::binary);
  write_all<BFloat16>(file);
  write_all<Float16>(file);
  return file.good() ? 0 : 1;
}
