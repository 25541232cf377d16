// The ids of a file's text, a zero, and the text they decode to: encode MODEL FILE
#include <rnnfast/rnnfast.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>

int main(int, char** argv) {
    const auto model = rnnfast::LanguageModel::load(argv[1]);
    std::ifstream file(argv[2], std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const std::vector<int32_t> ids = model.vocab().encode(text);
    for (const int32_t id : ids) std::printf("%d ", id);
    std::putchar('\0');
    const std::string decoded = model.vocab().decode(ids);
    std::fwrite(decoded.data(), 1, decoded.size(), stdout);
}
