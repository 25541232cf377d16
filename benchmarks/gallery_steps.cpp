// Time of one step of one stream of a network, in microseconds: the median of 200 blocks of 100 steps.
//
//     gallery_steps MODEL.safetensors ID...      the ids that it reads, in turns
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <rnnfast/network.hpp>
#include <rnnfast/rnnfast.hpp>
#include <vector>

int main(int count, char** arguments) {
    rnnfast::set_num_threads(1);
    const auto network = rnnfast::Network::load(arguments[1]);
    std::vector<int32_t> ids;
    for (int i = 2; i < count; ++i) ids.push_back(std::atoi(arguments[i]));
    std::vector<float> y(network.outputs()[0].width);
    rnnfast::NetworkState state = network.initial_state();
    std::vector<double> times;
    for (size_t block = 0, at = 0; block < 200; ++block) {
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < 100; ++i, ++at) network.step({&ids[at % ids.size()]}, state, {y.data()});
        times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() /
                        100);
    }
    std::nth_element(times.begin(), times.begin() + 100, times.end());
    std::printf("%f\n", times[100]);
}
