// A thread pool that grows to the largest number of threads asked for, serves several callers at once, and is
// built anew in a forked child, where the parent's threads do not exist.
#include "common/parallel.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "renderpretrain.h"

namespace renderpretrain {
namespace {

// Ranges still to be taken, by whoever comes: the caller and the workers it could get.
struct Job {
  RangeFunction function;
  void* body;
  int64_t count;
  int64_t grain;
  std::atomic<int64_t> next{0};
  int64_t helpers = 0;  // workers inside run(); guarded by the pool's mutex

  void run() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain);
      if (begin >= count) return;
      function(body, begin, std::min(begin + grain, count));
    }
  }
};

class Pool {
 public:
  const pid_t process = getpid();

  void run(Job& job, int64_t num_helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; num_workers_ < num_helpers; ++num_workers_) std::thread([this] { work(); }).detach();
      jobs_.insert(jobs_.end(), num_helpers, &job);
    }
    for (int64_t i = 0; i < num_helpers; ++i) wake_.notify_one();
    job.run();
    std::unique_lock<std::mutex> lock(mutex_);
    // Workers that are busy elsewhere need not come any more.
    jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
    left_.wait(lock, [&] { return job.helpers == 0; });
  }

 private:
  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !jobs_.empty(); });
      Job* const job = jobs_.front();
      jobs_.pop_front();
      ++job->helpers;
      lock.unlock();
      job->run();
      lock.lock();
      if (--job->helpers == 0) left_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable left_;
  std::deque<Job*> jobs_;  // one entry per helper asked for
  int64_t num_workers_ = 0;
};

// Never destroyed: its detached workers may outlive every static object. A lock held in the parent at the
// time of a fork stays held in the child, so the child must not touch the parent's pool, and there is none
// around the pointer.
Pool& pool() {
  static std::atomic<Pool*> current{nullptr};
  Pool* found = current.load();
  if (found != nullptr && found->process == getpid()) return *found;
  Pool* const fresh = new Pool;
  if (current.compare_exchange_strong(found, fresh)) return *fresh;
  delete fresh;  // another thread was faster; its pool is in `found`
  return *found;
}

}  // namespace

void parallel_ranges(int64_t count, int64_t grain, int64_t num_threads, RangeFunction function, void* body) {
  const int64_t num_ranges = (count + grain - 1) / grain;
  const int64_t num_helpers = std::min(num_threads, num_ranges) - 1;
  if (num_helpers > 0) {
    Job job{function, body, count, grain};
    try {
      pool().run(job, num_helpers);
      return;
    } catch (const std::exception&) {
      // No memory or no more threads: pool().run throws before it starts the job, so the caller can do it
      // all.
    }
  }
  if (count > 0) function(body, 0, count);
}

}  // namespace renderpretrain

int rp_abi_version(void) { return RP_ABI_VERSION; }

const char* rp_unusable(void) { return nullptr; }

const char* rp_error_text(int code) {
  if (code == RP_BAD_TYPE) return "expected float32, float64 or, where allowed, half precision";
  if (code == RP_TOO_LARGE) return "a size is beyond what the kernel is written for";
  if (code == RP_OUT_OF_RANGE) return "a number of a row is out of range";
  return "unknown error";
}

void rp_prefer_huge_pages_cpu(void* data, int64_t num_bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + num_bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}
