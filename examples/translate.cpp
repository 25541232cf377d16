// Translates standard input line by line. Prints log P of the translation, a tab, and its text.
//
//     translate MODEL [BEAM_SIZE] [N_BEST] < sentences.txt
#include <rnnfast/translator.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace {

void run(int argc, char** argv) {
    const auto translator = rnnfast::Translator::load(argv[1]);
    rnnfast::TranslateOptions options;
    if (argc > 2) options.beam_size = std::strtoul(argv[2], nullptr, 10);
    if (argc > 3) options.n_best = std::strtoul(argv[3], nullptr, 10);
    for (std::string line; std::getline(std::cin, line);) {
        const auto found =
            translator.translate(std::vector<std::vector<int32_t>>{translator.encode_source(line)}, options);
        for (const rnnfast::Translation& t : found[0])
            std::printf("%.17g\t%s\n", t.log_probability, translator.target_vocab().decode(t.tokens).c_str());
        std::fflush(stdout);  // a reader gets each translation immediately
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s MODEL [BEAM_SIZE] [N_BEST] < sentences.txt\n", argv[0]);
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
