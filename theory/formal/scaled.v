(* Clones with scales and signs (C8). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* s: the scale of each unit.  Equivariance f(s z) = s f(z) holds for s > 0 and ReLU, leaky ReLU and linear units, for
   s = 1 or -1 and odd ones, for s = 1 and all; differentiating it gives f'(s z) = f'(z). *)
Section Scaled.
Variables (F : fieldType) (V K : eqType) (N : net F V) (rk : V -> nat) (c : V -> K) (s : V -> F).
Notation us := (units N).
Notation W := (weights F V).
Hypothesis dag : acyclic_by N rk.
Hypothesis adm : admissible N c.
Hypothesis scale0 : forall v, s v != 0.
Hypothesis equivariant : forall v z, act N v (s v * z) = s v * act N v z.
Hypothesis slope_invariant : forall v z, slp N v (s v * z) = slp N v z.
Hypothesis ends_one : forall v, inp N v || out N v -> s v = 1.

Definition scaled_RE (w : W) := forall (j : K) (v v' : V), c v = c v' ->
  (s v)^-1 * (\sum_(u <- us | edge N u v && (c u == j)) w u v * s u) =
  (s v')^-1 * (\sum_(u <- us | edge N u v' && (c u == j)) w u v' * s u).
Definition scaled_CE (w : W) := forall (i : K) (u u' : V), c u = c u' ->
  (s u)^-1 * (\sum_(v <- us | edge N u v && (c v == i)) w u v * s v) =
  (s u')^-1 * (\sum_(v <- us | edge N u' v && (c v == i)) w u' v * s v).
Definition scaled_BC (t : W) := exists2 g : W, BC N c g & forall u v, edge N u v -> t u v = g u v * s u * s v.

(* divided by the scales, the network is one with equal clones *)
Definition unscaled (w : W) : W := fun u v => (s v)^-1 * w u v * s u.

Lemma unscaled_forward w x v : forward N w x v = s v * forward N (unscaled w) x v.
Proof.
symmetry; move: v; apply: (forward_unique dag) => v; rewrite (forwardE dag).
have [iv|niv] := boolP (inp N v); first by rewrite ends_one ?iv // mul1r.
rewrite -equivariant; congr (act N v _); rewrite /preact sumvE mulr_sumr; apply: eq_bigr => u _.
by rewrite /unscaled !mulrA mulfV // mul1r.
Qed.

Lemma unscaled_preact w x v : preact N w x v = s v * preact N (unscaled w) x v.
Proof.
rewrite /preact !sumvE mulr_sumr; apply: eq_bigr => u _.
by rewrite unscaled_forward /unscaled !mulrA mulfV // mul1r.
Qed.

Lemma unscaled_slope w x v : slope N w x v = slope N (unscaled w) x v.
Proof. by rewrite /slope unscaled_preact slope_invariant. Qed.

Lemma unscaled_RE w : scaled_RE w -> RE N c (unscaled w).
Proof.
move=> re j v v' cv; have := re j v v' cv; rewrite !mulr_sumr.
by under eq_bigr do rewrite mulrA; under [X in _ = X -> _]eq_bigr do rewrite mulrA.
Qed.

Theorem C8_forward w x : scaled_RE w -> forall v v', c v = c v' ->
  (s v)^-1 * forward N w x v = (s v')^-1 * forward N w x v'.
Proof.
move=> re v v' cv; rewrite !(unscaled_forward w x) !mulKf //.
exact: (C1_forward dag adm x (unscaled_RE re)).
Qed.

Lemma C8_slope w x : scaled_RE w -> forall v v', c v = c v' -> slope N w x v = slope N w x v'.
Proof. by move=> re v v' cv; rewrite !(unscaled_slope w); apply: (C1_slope dag adm x (unscaled_RE re)). Qed.

Theorem C8_backward w b : scaled_RE w -> scaled_CE w -> forall u u', c u = c u' ->
  (s u)^-1 * backward N w b u = (s u')^-1 * backward N w b u'.
Proof.
move=> re ce u u' cu; have [inp1 out1 _ _] := adm.
have [d] := ubnP (maxn (steps N - rk u) (steps N - rk u')); rewrite gtn_max => /andP[].
elim: d u u' cu => // d IH u u' cu lu lu'.
have [ou|nou] := boolP (out N u); first by rewrite (out1 _ _ ou cu).
rewrite !(backwardE dag) -(out_block adm cu) (negPf nou) !add0r !mulr_sumr.
have regroup y : \sum_(v <- us | edge N y v) (s y)^-1 * (w y v * (slope N w (xval b) v * backward N w b v)) =
    \sum_(v <- us | edge N y v) (s y)^-1 * (w y v * s v) * (slope N w (xval b) v * ((s v)^-1 * backward N w b v)).
  apply: eq_bigr => v _; rewrite -!mulrA; congr (_ * (_ * _)).
  by rewrite [s v * _]mulrCA mulVKf.
rewrite !regroup; apply: (@block_sum _ _ _ N c (edge N u) (edge N u') (fun v => (s u)^-1 * (w u v * s v))
  (fun v => (s u')^-1 * (w u' v * s v))) => [v v' us_v us_v' ev ev' cv|i]; last first.
  by have := ce i u u' cu; rewrite !mulr_sumr.
rewrite (C8_slope _ re cv); congr (_ * _).
have low y : y \in us -> edge N u y || edge N u' y -> (steps N - rk y < d)%N.
  move=> us_y /orP[] /dag.1 lt_y; [apply: leq_trans (lu : (steps N - rk u <= d)%N)
    | apply: leq_trans (lu' : (steps N - rk u' <= d)%N)];
  by rewrite ltn_sub2l // (ltn_trans lt_y) ?dag.2.
by apply: IH; rewrite ?low.
Qed.

Theorem C8_gradient w b : scaled_RE w -> scaled_CE w -> scaled_BC (grad N w b).
Proof.
move=> re ce; exists (fun u v => (s u)^-1 * (s v)^-1 * grad N w b u v) => [u u' v v' _ _ cu cv|u v _]; last first.
  by rewrite -invfM -mulrA mulrAC mulVf ?mul1r // mulf_neq0.
rewrite !gradE !mulr_sumr; apply: eq_bigr => x _.
have shape y z : (s y)^-1 * (s z)^-1 * (forward N w (xval x) y * (slope N w (xval x) z * backward N w x z)) =
    ((s y)^-1 * forward N w (xval x) y) * (slope N w (xval x) z * ((s z)^-1 * backward N w x z)).
  by rewrite mulrACA; congr (_ * _); rewrite mulrCA.
by rewrite !shape (C8_forward _ re cu) (C8_slope _ re cv) (C8_backward _ re ce cv).
Qed.

(* the sums of squares of scales over in- and out-neighbours depend on the blocks only *)
Definition scaled_pattern :=
  (forall (j : K) v v', c v = c v' -> \sum_(u <- us | edge N u v && (c u == j)) s u ^+ 2 = \sum_(u <- us | edge N u v' && (c u == j)) s u ^+ 2) /\
  (forall (i : K) u u', c u = c u' -> \sum_(v <- us | edge N u v && (c v == i)) s v ^+ 2 = \sum_(v <- us | edge N u' v && (c v == i)) s v ^+ 2).

(* a block-constant multiple of squares has sums that depend on the blocks only *)
Lemma squares (P P' : pred V) (g g' : V -> F) :
  (forall u u', P u -> P u' -> g u = g u') -> (forall u u', P u -> P' u' -> g u = g' u') ->
  (forall u u', P' u -> P' u' -> g' u = g' u') ->
  \sum_(u <- us | P u) s u ^+ 2 = \sum_(u <- us | P' u) s u ^+ 2 ->
  \sum_(u <- us | P u) g u * s u ^+ 2 = \sum_(u <- us | P' u) g' u * s u ^+ 2.
Proof.
move=> gP gPP' gP' sE.
have [/hasP[u0 us0 P0]|none] := boolP (has P us).
  rewrite (eq_bigr (fun u => g u0 * s u ^+ 2)) => [|u Pu]; last by rewrite (gP u u0).
  rewrite [RHS](eq_bigr (fun u => g u0 * s u ^+ 2)) => [|u Pu]; last by rewrite (gPP' u0 u).
  by rewrite -!mulr_sumr sE.
have [/hasP[u0 us0 P0]|none'] := boolP (has P' us); last by rewrite !big_hasC.
rewrite [RHS](eq_bigr (fun u => g' u0 * s u ^+ 2)) => [|u Pu]; last by rewrite (gP' u u0).
by rewrite -mulr_sumr -sE !big_hasC // mulr0.
Qed.

Theorem C8_coset w t : scaled_pattern -> scaled_RE w -> scaled_CE w -> scaled_BC t ->
  scaled_RE (fun u v => w u v + t u v) /\ scaled_CE (fun u v => w u v + t u v).
Proof.
move=> [pin pout] re ce [g bg tE]; split=> [j v v' cv|i u u' cu].
- have part y : (s y)^-1 * (\sum_(u <- us | edge N u y && (c u == j)) (w u y + t u y) * s u) =
      (s y)^-1 * (\sum_(u <- us | edge N u y && (c u == j)) w u y * s u) +
      \sum_(u <- us | edge N u y && (c u == j)) g u y * s u ^+ 2.
    rewrite !mulr_sumr -big_split; apply: eq_bigr => u /andP[uy _] /=.
    rewrite mulrDl mulrDr tE //; congr (_ + _).
    by rewrite [g u y * s u * s y * s u]mulrAC [_ * s y]mulrC mulKf // expr2 mulrA.
  rewrite !part (re j _ _ cv); congr (_ + _).
  apply: squares (pin j _ _ cv) => a b /andP[ea /eqP ca] /andP[eb /eqP cb]; by apply: bg; rewrite ?ca ?cb.
- have part y : (s y)^-1 * (\sum_(v <- us | edge N y v && (c v == i)) (w y v + t y v) * s v) =
      (s y)^-1 * (\sum_(v <- us | edge N y v && (c v == i)) w y v * s v) +
      \sum_(v <- us | edge N y v && (c v == i)) g y v * s v ^+ 2.
    rewrite !mulr_sumr -big_split; apply: eq_bigr => v /andP[yv _] /=.
    rewrite mulrDl mulrDr tE //; congr (_ + _).
    by rewrite -[g y v * s y * s v * s v]mulrA [g y v * s y * _]mulrAC [_ * s y]mulrC mulKf // expr2.
  rewrite !part (ce i _ _ cu); congr (_ + _).
  apply: squares (pout i _ _ cu) => a b /andP[ea /eqP ca] /andP[eb /eqP cb]; by apply: bg; rewrite ?ca ?cb.
Qed.

(* heavy ball with any rates; descent is mu = 0 *)
Section Momentum.
Variables (eta : nat -> F) (mu : F) (B : nat -> W -> seq (sample F V)) (w0 : W).
Fixpoint heavy_ball (T : nat) : W * W :=
  if T is T'.+1 then
    let: (w, m) := heavy_ball T' in
    let m' : W := fun u v => mu * m u v + grad N w (B T' w) u v in
    (fun u v => w u v - eta T' * m' u v, m')
  else (w0, fun _ _ => 0).

Theorem C8_momentum : scaled_pattern -> scaled_RE w0 -> scaled_CE w0 -> forall T,
  [/\ scaled_RE (heavy_ball T).1, scaled_CE (heavy_ball T).1, scaled_BC (heavy_ball T).2 &
      scaled_BC (fun u v => (heavy_ball T).1 u v - w0 u v)].
Proof.
move=> pat re0 ce0; elim=> [|T] /=.
  by split=> //; exists (fun _ _ => 0) => // u v _; rewrite ?subrr !mul0r.
case: (heavy_ball T) => w m /= [re ce [g bg mE] [g0 bg0 wE]]; have [h bh hE] := C8_gradient (B T w) re ce.
have move : scaled_BC (fun u v => - (eta T * (mu * m u v + grad N w (B T w) u v))).
  exists (fun u v => - (eta T * (mu * g u v + h u v))) => [u u' v v' e e' cu cv|u v uv].
    by rewrite (bg _ _ _ _ e e' cu cv) (bh _ _ _ _ e e' cu cv).
  rewrite mE // hE // !mulNr; congr (- _); rewrite -!mulrA; congr (_ * _).
  by rewrite !mulrDl !mulrA.
have [reT ceT] := C8_coset pat re ce move; split=> //.
  exists (fun u v => mu * g u v + h u v) => [u u' v v' e e' cu cv|u v uv].
    by rewrite (bg _ _ _ _ e e' cu cv) (bh _ _ _ _ e e' cu cv).
  by rewrite mE // hE // !mulrDl !mulrA.
have [k bk kE] := move; exists (fun u v => g0 u v + k u v) => [u u' v v' e e' cu cv|u v uv].
  by rewrite (bg0 _ _ _ _ e e' cu cv) (bk _ _ _ _ e e' cu cv).
by rewrite !mulrDl -wE // -kE // addrAC.
Qed.
End Momentum.
End Scaled.
