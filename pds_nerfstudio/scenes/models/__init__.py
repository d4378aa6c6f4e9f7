"""The models that are edited, nerfacto and splatfacto, and what belongs to them."""
