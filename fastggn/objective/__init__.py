"""Every function of theta: the problem, a point of it, Jacobian, Gauss-Newton matrix, Hessian."""
