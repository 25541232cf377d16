// Continues a prompt with sampled text.
//
//     generate MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED] [f32|bf16|int8]
#include <rnnfast/rnnfast.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>

namespace {

rnnfast::LanguageModel load(const std::string& path, const std::string& weights) {
    if (weights == "f32") return rnnfast::LanguageModel::load(path, rnnfast::Weights::f32);
    if (weights == "bf16") return rnnfast::LanguageModel::load(path, rnnfast::Weights::bf16);
    if (weights == "int8") return rnnfast::LanguageModel::load(path, rnnfast::Weights::int8);
    return rnnfast::LanguageModel::load(path);
}

void run(int argc, char** argv) {
    const auto argument = [&](int i, const char* otherwise) { return std::string(argc > i ? argv[i] : otherwise); };
    const rnnfast::LanguageModel model = load(argv[1], argument(6, "as stored"));
    const std::string prompt = argv[2];
    const auto length = std::strtoul(argument(3, "200").c_str(), nullptr, 10);
    rnnfast::Sampler sampler(std::strtod(argument(4, "0.8").c_str(), nullptr), /*top_k=*/0,
                             std::strtoull(argument(5, "0").c_str(), nullptr, 10));
    std::printf("%s%s\n", prompt.c_str(), model.generate(prompt, length, sampler).c_str());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED] [f32|bf16|int8]\n", argv[0]);
        return 2;
    }
    try {
        run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
