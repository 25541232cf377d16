// The bits of the logits after every token of a text: logits MODEL TEXT f32|bf16|int8|stored
#include <rnnfast/rnnfast.hpp>

#include <cstdio>
#include <cstring>

int main(int, char** argv) {
    using rnnfast::LanguageModel;
    using rnnfast::Weights;
    const std::string weights = argv[3];
    const LanguageModel model = weights == "f32"    ? LanguageModel::load(argv[1], Weights::f32)
                                : weights == "bf16" ? LanguageModel::load(argv[1], Weights::bf16)
                                : weights == "int8" ? LanguageModel::load(argv[1], Weights::int8)
                                                    : LanguageModel::load(argv[1]);
    rnnfast::State state = model.initial_state();
    std::vector<float> logits;
    for (const int32_t token : model.vocab().encode(argv[2])) {
        model.step(token, state, logits);
        for (const float logit : logits) {
            uint32_t bits;
            std::memcpy(&bits, &logit, sizeof bits);
            std::printf("%08x", bits);
        }
        std::printf("\n");
    }
}
