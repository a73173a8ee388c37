// The linear layers of one decode step (or of a chunk of rows), nothing between them, beside the read bandwidth measured in turn
// with them: how near the kernels come to what memory allows.
//   linear_layers 135m|0.5b|1.5b [--threads N] [--rows N] [--rounds N] [--bits N] [--block N] [--isa NAME]
//                                [--file PATH] [--pages small|huge]
// Weights are random; with --file they are read through a read-only map of PATH, which is made and removed again. Huge pages
// are asked for unless --pages small: a virtual machine reads a third faster through them.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "isa.h"
#include "linear.h"

using namespace edgewise;

namespace {

struct Model {
  const char* name;
  int64_t hidden, intermediate, kv, vocab, layers;
};

constexpr Model kModels[] = {
    {"135m", 576, 1536, 192, 49152, 30},
    {"0.5b", 896, 4864, 128, 151936, 24},
    {"1.5b", 1536, 8960, 256, 151936, 28},
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

uint8_t* reserve(int64_t bytes, const char* path, bool huge) {
  std::mt19937_64 random(1);
  std::vector<uint64_t> page(1 << 17);
  // Small positive scales, so that no product overflows: every two bytes are a float16 of about 1e-3.
  for (uint64_t& word : page) word = (random() & 0x003f003f003f003full) | 0x1440144014401440ull;
  const int64_t piece = static_cast<int64_t>(page.size() * 8);
  if (!path) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::exit((std::perror("mmap"), 1));
    if (huge) madvise(memory, bytes, MADV_HUGEPAGE);
    for (int64_t at = 0; at < bytes; at += piece)
      std::memcpy(static_cast<char*>(memory) + at, page.data(), std::min(piece, bytes - at));
    return static_cast<uint8_t*>(memory);
  }
  const int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0) std::exit((std::perror(path), 1));
  for (int64_t at = 0; at < bytes; at += piece)
    if (write(fd, page.data(), std::min(piece, bytes - at)) < 0) std::exit((std::perror(path), 1));
  void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  // Pages just written are small; read again, they may come in large pieces.
  if (huge && (fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) || madvise(memory, bytes, MADV_HUGEPAGE)))
    std::fprintf(stderr, "no huge pages\n");
  close(fd);
  unlink(path);
  if (memory == MAP_FAILED) std::exit((std::perror("mmap"), 1));
  return static_cast<uint8_t*>(memory);
}

// GB/s of summing the same bytes with the same team.
double read_bandwidth(const uint8_t* memory, int64_t bytes, Team& team) {
  constexpr int64_t piece = 1 << 18;
  std::vector<uint64_t> sums(bytes / piece);
  const double start = now();
  team.each(bytes / piece, [&](int64_t chunk) {
    using Words = uint64_t __attribute__((vector_size(32), aligned(8), may_alias));
    Words sum[4] = {};
    const Words* p = reinterpret_cast<const Words*>(memory + chunk * piece);
    for (int64_t i = 0; i < piece / 32; i += 4)
      for (int j = 0; j < 4; ++j) sum[j] += p[i + j];
    sums[chunk] = (sum[0] + sum[1] + sum[2] + sum[3])[0];
  });
  const double gbps = 1e-9 * bytes / (now() - start);
  volatile uint64_t sink = 0;
  for (uint64_t s : sums) sink = sink + s;
  return gbps;
}

struct Layer {
  Shape shape;
  int64_t offset;
};

}  // namespace

int main(int argc, char** argv) {
  const Model* model = nullptr;
  for (const Model& m : kModels)
    if (argc > 1 && !std::strcmp(argv[1], m.name)) model = &m;
  if (!model) {
    std::fprintf(stderr, "usage: linear_layers 135m|0.5b|1.5b [--threads N] [--rows N] [--rounds N] [--bits N] "
                         "[--block N] [--isa NAME] [--file PATH] [--pages small|huge]\n");
    return 2;
  }
  int threads = 2, rows = 1, rounds = 20, bits = 4, block = 32;
  bool huge = true;
  const char* path = nullptr;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    if (key == "--threads") threads = std::atoi(argv[i + 1]);
    if (key == "--rows") rows = std::atoi(argv[i + 1]);
    if (key == "--rounds") rounds = std::atoi(argv[i + 1]);
    if (key == "--bits") bits = std::atoi(argv[i + 1]);
    if (key == "--block") block = std::atoi(argv[i + 1]);
    if (key == "--file") path = argv[i + 1];
    if (key == "--pages") huge = std::string(argv[i + 1]) != "small";
    if (key == "--isa" && choose(argv[i + 1]) != Chosen::ok) return std::fprintf(stderr, "no %s here\n", argv[i + 1]), 2;
  }
  std::vector<Layer> layers;
  int64_t bytes = 0;
  const auto add = [&](int64_t out, int64_t in, bool gated) {
    layers.push_back({{out, in, bits, block, false, gated}, bytes});
    bytes += (layers.back().shape.bytes() + 4095) / 4096 * 4096;
  };
  for (int64_t l = 0; l < model->layers; ++l) {
    add(model->hidden + 2 * model->kv, model->hidden, false);
    add(model->hidden, model->hidden, false);
    add(2 * model->intermediate, model->hidden, true);
    add(model->hidden, model->intermediate, false);
  }
  add(model->vocab, model->hidden, false);
  const uint8_t* memory = reserve(bytes, path, huge);
  Team& team = Team::of(threads);
  std::vector<float> x(rows * model->intermediate, 0.5f), y(std::max(model->vocab, 2 * model->intermediate) * rows);
  const std::vector<float> norm(model->hidden, 1.0f);
  std::vector<double> seconds, bandwidths;
  for (int round = -1; round < rounds; ++round) {
    const double start = now();
    for (const Layer& layer : layers) {
      const bool head = layer.shape.rows == model->vocab;
      LinearArguments args;
      args.x = x.data();
      args.rows = head ? std::min(rows, 8) : rows;
      args.weights = memory + layer.offset;
      args.norm = layer.shape.inputs == model->hidden ? norm.data() : nullptr;
      args.epsilon = 1e-5f;
      args.out = y.data();
      linear(layer.shape, args, team);
    }
    const double took = now() - start;
    const double bandwidth = read_bandwidth(memory, bytes, team);
    if (round >= 0) seconds.push_back(took), bandwidths.push_back(bandwidth);
  }
  const double took = median(seconds), best = *std::min_element(seconds.begin(), seconds.end());
  const double gbps = 1e-9 * bytes / took, bandwidth = median(bandwidths);
  std::printf("{\"model\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"rows\": %d, \"bits\": %d, \"block\": %d, \"mb\": %.1f, "
              "\"ms\": %.3f, \"ms_best\": %.3f, \"rows_per_s\": %.1f, \"gbps\": %.2f, \"read_gbps\": %.2f, "
              "\"of_bandwidth\": %.3f}\n",
              model->name, kernels().name, threads, rows, bits, block, 1e-6 * bytes, 1e3 * took, 1e3 * best, rows / took,
              gbps, bandwidth, gbps / bandwidth);
}
