// What every object with parameters offers Python: names, values, gradients, loading.
#pragma once

#include "bindings/arrays.h"
#include "layers/optim.h"
#include "runtime/fork.h"

namespace rnnfast::bindings {

// A layer with the lock of its gradients, to which the backwards of several threads add.
template <class Layer>
class Trainable : public Layer {
public:
    using Layer::Layer;
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }

private:
    ForkSafeMutex gradients_mutex_;
};

// A bound class with parameters(), weights_changed(), kernels() and gradients_mutex(), as the methods that all such
// classes share see it: each of these methods is compiled once, not once for each class.
struct Parameterized {
    void* (*object)(py::handle self);  // with the GIL
    Parameters (*parameters)(void*);
    void (*weights_changed)(void*);
    const Kernels& (*kernels)(void*);
    ForkSafeMutex& (*gradients_mutex)(void*);
};

template <class Class>
constexpr Parameterized parameterized = {
    [](py::handle self) -> void* { return &py::cast<Class&>(self); },
    [](void* object) -> Parameters { return static_cast<Class*>(object)->parameters(); },
    [](void* object) { static_cast<Class*>(object)->weights_changed(); },
    [](void* object) -> const Kernels& { return static_cast<Class*>(object)->kernels(); },
    [](void* object) -> ForkSafeMutex& { return static_cast<Class*>(object)->gradients_mutex(); },
};

// The methods for names, values, gradients and optimizers.
void add_parameters(py::object bound, const Parameterized& of);

template <class Class, class... Options>
void add_parameters(py::class_<Class, Options...>& bound) {
    add_parameters(bound, parameterized<Class>);
}

}  // namespace rnnfast::bindings
