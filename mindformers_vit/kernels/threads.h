// A pool of threads for loops whose iterations are independent: who runs an iteration does not
// matter to its result, so neither the number of threads nor the load of the machine does.
#pragma once
#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
 public:
  using Body = std::function<void(int64_t)>;

  static Pool& get() {
    static const int made = (renew(), pthread_atfork(nullptr, nullptr, renew));
    (void)made;
    return *pool_;
  }

  // The caller is one of the threads.
  void resize(int threads) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (; size_ < threads; ++size_) std::thread([this] { serve(); }).detach();
  }

  // body(0) ... body(count - 1), in any order, on any thread; returns when all are done.
  void run(int64_t count, const Body& body) {
    if (count == 1 || size_ == 1) {
      for (int64_t i = 0; i < count; ++i) body(i);
      return;
    }
    auto loop = std::make_shared<Loop>(&body, count);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      newest_ = loop;
      ++posted_;
    }
    wake_.notify_all();
    loop->work();
    for (int i = 0; loop->done.load(std::memory_order_acquire) < count; ++i) wait_a_little(i);
  }

 private:
  struct Loop {
    Loop(const Body* body, int64_t count) : body(body), count(count) {}
    void work() {  // a late thread finds nothing left and never touches the body
      for (int64_t i; (i = next.fetch_add(1)) < count;) {
        (*body)(i);
        done.fetch_add(1, std::memory_order_release);
      }
    }
    const Body* body;
    const int64_t count;
    std::atomic<int64_t> next{0}, done{0};
  };

  static constexpr int kSpins = 2000;  // the next loop often follows at once

  // Mostly without the kernel: where it is slow to be called, yielding costs more than the loops.
  static void wait_a_little(int turn) {
#if defined(__x86_64__)
    if (turn % 64) return __builtin_ia32_pause();
#endif
    std::this_thread::yield();
  }

  void serve() {
    uint64_t seen = 0;
    for (;;) {
      for (int i = 1; i < kSpins && posted_.load() == seen; ++i) wait_a_little(i);
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return posted_.load() != seen; });
      seen = posted_.load();
      auto loop = newest_;
      lock.unlock();
      loop->work();
    }
  }

  // Never destroyed: its threads may outlive static objects. A fork takes no threads along, and
  // perhaps a locked mutex; there the caller is the only thread of a new pool.
  inline static Pool* pool_ = nullptr;
  static void renew() { pool_ = new Pool; }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::shared_ptr<Loop> newest_;
  std::atomic<uint64_t> posted_{0};
  int size_ = 1;
};
