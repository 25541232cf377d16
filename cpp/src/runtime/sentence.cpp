#include "runtime/sentence.h"

#include <stdexcept>

#include "rnnfast/error.hpp"

namespace rnnfast::core {

void Word::append_to(std::string& sentence) const {
    if (text_ && text_ != minus) {
        sentence.append(text_, static_cast<size_t>(value_));
        return;
    }
    if (text_) sentence += minus;
    sentence += std::to_string(value_);
}

std::string joined(Sentence sentence) {
    std::string text;
    for (const Word& word : sentence) word.append_to(text);
    return text;
}

void refuse(Sentence sentence) { throw std::invalid_argument(joined(sentence)); }
void refuse_index(Sentence sentence) { throw std::out_of_range(joined(sentence)); }
void refuse_file(Sentence sentence) { throw Error(joined(sentence)); }

}  // namespace rnnfast::core
