// A layer one time step at a time, the state kept inside: no allocation, no lock and no system call in a step.
#pragma once

#include "layers/recurrent.h"

namespace rnnfast::core {

// One direction, any cell, any number of layers. A step gives the bits of that step of Recurrent::forward. Runs on the
// caller's thread; the layer must outlive the stream. Weights that changed are packed anew at the next step.
class Stream {
public:
    // Throws std::invalid_argument for a bidirectional layer, whose second half needs the end of the sequence.
    Stream(const Recurrent& layer, size_t rows);

    // x: [N, D]; y: [N, H] out
    void step(const float* x, float* y);

    // h, c: [layers, N, H]; c of cells that have one. nullptr sets zeros.
    void set_state(const float* h, const float* c);
    void get_state(float* h, float* c) const;

    const Recurrent& layer() const { return layer_; }
    size_t rows() const { return rows_; }
    double flops() const { return flops_; }  // of one step

private:
    struct Lane {
        Buffer h, h_next, c;  // [N, H], [N, H], [N, padded H]
    };
    const Recurrent& layer_;
    size_t rows_, steps_ = 0;
    double flops_ = 0;
    std::vector<Lane> lanes_;
    StepMemory memory_;
};

}  // namespace rnnfast::core
