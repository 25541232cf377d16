// logits = z W^T + b, and their softmax cross-entropy: the last layer of every model over a vocabulary.
#pragma once

#include <memory>
#include <mutex>

#include "core/largest_output.h"
#include "core/optim.h"

namespace rnnfast {

// The parameters stay with the model; here they are kept in the orders and the precision that products want.
class OutputLayer {
public:
    OutputLayer() = default;
    OutputLayer(const Kernels& kernels, Weights weights, Parameter* weight, Parameter* bias);  // [V, Z], [V]

    size_t inputs() const { return weight_->shape[1]; }
    size_t vocabulary() const { return weight_->shape[0]; }
    void weights_changed();

    // z: [rows, Z], logits: [rows, V]. May run on several threads at once, each with its scratch.
    void logits(const float* z, size_t rows, float* logits, Buffer& scratch) const;

    // tokens[r] = the id of the largest logit of row r, but for those of `never`, ties to the lower id: what logits()
    // gives, found faster. Throws std::domain_error if there is none.
    void likeliest(const float* z, size_t rows, const std::vector<int32_t>& never, int32_t* tokens,
                   LargestOutput::Scratch& scratch) const;

    // A model that reads its own words while it is trained: tokens[r] = the id of the largest logit, ties to the lower
    // id, and products [rows, V] = z W^T, with which `loss` need not compute them again.
    void choose(const float* z, size_t rows, float* products, int32_t* tokens, Buffer& scratch) const;

    // nll: [rows] out, -log softmax(logits)[target] in nats, 0 where the target is negative. With dz [rows, Z] the
    // gradients of the mean over the targets that count: dz, and the parameters' until add_gradients() adds them.
    // products: of the rows that `choose` has seen, nullptr for others; or nullptr.
    void loss(const float* z, size_t rows, const int32_t* targets, double* nll, float* dz,
              const float* const* products = nullptr);
    void add_gradients();

private:
    void pack_linear() const;
    void pack_screen() const;
    void pack_rows() const;
    void loss_in_int8(const float* z, size_t rows, const int32_t* targets, double* nll);

    const Kernels* kernels_ = nullptr;
    Weights weights_ = Weights::f32;
    Parameter *weight_ = nullptr, *bias_ = nullptr;
    // The weights as the right-hand side of `logits` and, in a low precision, as the left rows of the loss.
    struct Packed {
        std::mutex mutex;
        PackedLinear linear;
        LargestOutput screen;
        Buffer rows;
        size_t row_words = 0;
        bool linear_ready = false, rows_ready = false, screen_ready = false;
    };
    std::unique_ptr<Packed> packed_;
    Buffer dweight_, dbias_, logits_, scratch_;
};

}  // namespace rnnfast
