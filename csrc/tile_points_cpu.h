// Which points a tile holds, its memory, and how threads share the tiles.
#pragma once

#include <atomic>

#include "common/parallel.h"
#include "tile_cpu.h"

namespace renderpretrain {

constexpr int64_t padded(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// Takes parts of one array, or counts what they need where there is none.
template <typename T>
struct Arena {
  T* base;
  int64_t used = 0;

  T* rows(int64_t count) { return numbers(count * kTile); }
  T* numbers(int64_t count) {
    T* const part = base ? base + used : nullptr;
    used += (count + kLanes - 1) / kLanes * kLanes;
    return part;
  }
};

// Up to kTile points, by their numbers among all, and what moves rows of numbers between them and a tile.
struct TilePoints {
  int64_t indices[kTile];
  int count = 0;

  // Takes the next points that count from [*next, end), numbered from `first`; calls skip(index) for others.
  template <typename Skip>
  bool choose(const bool* valid, int64_t first, int64_t* next, int64_t end, Skip&& skip) {
    count = 0;
    for (; *next < end && count < kTile; ++*next) {
      const int64_t index = first + *next;
      if (valid == nullptr || valid[index]) indices[count++] = index;
      else skip(index);
    }
    return count > 0;
  }

  // Point by point, in padded rows: row indices[j] / samples of `from`.
  template <typename T>
  void gather(const T* from, int64_t width, int64_t samples, T* points) const {
    if (width == 0) return;
    std::fill_n(points, padded(width) * kTile, T{});
    for (int j = 0; j < count; ++j) {
      std::copy_n(from + indices[j] / samples * width, width, points + j * padded(width));
    }
  }

  // Rows of the tile from those of all points, and back.
  template <typename T>
  void take(const T* from, int64_t width, T* rows) const {
    if (from == nullptr) return;
    clear_rows(width, rows);
    for (int j = 0; j < count; ++j) {
      for (int64_t c = 0; c < width; ++c) rows[c * kTile + j] = from[indices[j] * width + c];
    }
  }

  template <typename T>
  void put(const T* rows, int64_t width, T* to) const {
    if (to == nullptr) return;
    for (int j = 0; j < count; ++j) {
      for (int64_t c = 0; c < width; ++c) to[indices[j] * width + c] = rows[c * kTile + j];
    }
  }
};

// Calls body(tile, item) for every item on `workers` threads, each with a tile of its own that make(arena)
// gives, of `numbers` numbers each.
template <typename T, typename Make, typename Body>
void share_out(int64_t items, int64_t workers, int64_t numbers, T* scratch, Make&& make, Body&& body) {
  std::atomic<int64_t> next{0};
  parallel_for(workers, 1, workers, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      Arena<T> arena{scratch + worker * numbers};
      auto tile = make(&arena);
      for (int64_t item = next++; item < items; item = next++) body(tile, item);
    }
  });
}

}  // namespace renderpretrain
