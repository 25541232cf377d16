// Numbers below 1.2e-38 through a linear layer: kept, as IEEE 754 says; with flush-to-zero in the calling thread they
// are zero. The library leaves the processor's mode alone.
#include <rnnfast/layers.hpp>

#include <cstdio>
#include <string>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

// A file with weight [1, 1] = 1e-20.
std::string file() {
    std::string header = R"({"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}})";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const float weight = 1e-20f;
    std::string bytes(1, static_cast<char>(header.size()));
    bytes.resize(8, '\0');
    return bytes + header + std::string(reinterpret_cast<const char*>(&weight), sizeof weight);
}

}  // namespace

int main() {
    const std::string bytes = file();
    const auto tensors = rnnfast::Tensors::parse(bytes.data(), bytes.size());
    const rnnfast::Linear linear(tensors, "weight", "");
    const float x = 1e-20f;
    float y;
    linear.forward(&x, &y);
    std::printf("%a\n", static_cast<double>(y));
    if (y != 1e-20f * x || y == 0) return 1;
#if defined(__SSE2__)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);  // flush-to-zero, denormals-are-zero
    linear.forward(&x, &y);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(mode);
    std::printf("%a with flush-to-zero\n", static_cast<double>(y));
    if (y != 0 || (after & 0x8040) != 0x8040) return 1;
#endif
    return 0;
}
