// Groups of rows in a layer of a network that knows of none: it runs on the rows of each group alone.
#pragma once

#include "layers/group_gradients.h"
#include "models/network_layer.h"

namespace rnnfast::core {

struct GroupedTape {
    std::vector<std::unique_ptr<LayerTape>> groups;
    std::vector<Buffer> x, dx;  // of a group
    Buffer y, dy;
    GroupGradientsMemory gradients;
};

// Only for layers with a tape: of others, forward treats each row on its own.
void forward_groups(const NetworkLayer& layer, const LayerForward& f, GroupedTape& tape);
// `kernels`: for sums of gradients
void backward_groups(const Kernels& kernels, NetworkLayer& layer, const LayerBackward& b, GroupedTape& tape);

}  // namespace rnnfast::core
