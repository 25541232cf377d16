// What Python's compiled models have in common.
#pragma once

#include "bindings/arrays.h"
#include "files/options.h"
#include "ops/row_groups.h"
#include "runtime/dispatch.h"

namespace rnnfast::bindings {

// A model of a configuration as JSON.
template <class Model, class Options>
std::unique_ptr<Model> made_of(const std::string& config) {
    const py::gil_scoped_release release;
    const auto options = read_options<Options>(parse_json(config));
    return std::make_unique<Model>(options, options.seed, active());
}

// One dropout key for all rows, or one for each group of them; apart: so that backward keeps each group's gradients.
using Keys = std::pair<std::vector<uint64_t>, bool>;
inline RowGroups row_groups_of(const Keys& keys) {
    const auto& [dropout_keys, apart] = keys;
    if (dropout_keys.empty()) throw std::invalid_argument("dropout_keys is empty, expected one key or one a group");
    RowGroups groups(dropout_keys[0]);
    if (dropout_keys.size() > 1) groups.keys = dropout_keys;
    groups.sums.apart = apart;
    return groups;
}

}  // namespace rnnfast::bindings
